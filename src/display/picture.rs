//! PNG files: 8-bit RGB, written and read back to be placed below each other.

use crate::error::{Error, Result};

/// A picture of 8-bit red, green and blue, row by row from the top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Picture {
    /// The mean of every `factor` x `factor` block: what turns jagged edges into smooth ones.
    pub(crate) fn reduced(&self, factor: usize) -> Self {
        let (width, height) = (self.width / factor, self.height / factor);
        let area = (factor * factor) as u32;
        let mut rgb = vec![0; width * height * 3];
        let mut sums = vec![0u32; width * 3];
        for (y, row) in rgb.chunks_exact_mut(width * 3).enumerate() {
            sums.fill(0);
            for line in 0..factor {
                let begin = (y * factor + line) * self.width * 3;
                let source = &self.rgb[begin..begin + width * factor * 3];
                for (sum, block) in sums.chunks_exact_mut(3).zip(source.chunks_exact(3 * factor)) {
                    for pixel in block.chunks_exact(3) {
                        sum[0] += u32::from(pixel[0]);
                        sum[1] += u32::from(pixel[1]);
                        sum[2] += u32::from(pixel[2]);
                    }
                }
            }
            for (byte, sum) in row.iter_mut().zip(&sums) {
                *byte = ((sum + area / 2) / area) as u8;
            }
        }
        Self { width, height, rgb }
    }

    /// The bytes of a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let failed = |error: png::EncodingError| Error::internal("cannot encode a picture as PNG").because(error);
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // A notebook carries the bytes for good; a few milliseconds more are nothing.
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.rgb).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(out)
    }

    /// Reads a PNG file of 8-bit RGB, the only kind that `png` writes.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
        let mut rgb = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut rgb).ok()?;
        let eight_bit_rgb = info.color_type == png::ColorType::Rgb && info.bit_depth == png::BitDepth::Eight;
        eight_bit_rgb.then(|| Self { width: info.width as usize, height: info.height as usize, rgb })
    }
}

/// Several PNG files as one, below each other on white; `None` if one is not 8-bit RGB.
pub(crate) fn stack(files: &[&[u8]]) -> Option<Vec<u8>> {
    if let [one] = files {
        return Some(one.to_vec());
    }
    let pictures: Vec<Picture> = files.iter().map(|file| Picture::read(file)).collect::<Option<_>>()?;
    let width = pictures.iter().map(|picture| picture.width).max()?;
    let height = pictures.iter().map(|picture| picture.height).sum();
    let mut rgb = vec![255; width * height * 3];
    let rows = pictures.iter().flat_map(|picture| picture.rgb.chunks_exact(picture.width * 3));
    for (target, source) in rgb.chunks_exact_mut(width * 3).zip(rows) {
        target[..source.len()].copy_from_slice(source);
    }
    Picture { width, height, rgb }.png().ok()
}

/// Several PNG files as one, side by side on white, their tops level; `None` if one is not 8-bit RGB.
pub(crate) fn beside(files: &[&[u8]]) -> Option<Vec<u8>> {
    let pictures: Vec<Picture> = files.iter().map(|file| Picture::read(file)).collect::<Option<_>>()?;
    let width: usize = pictures.iter().map(|picture| picture.width).sum();
    let height = pictures.iter().map(|picture| picture.height).max()?;
    let mut rgb = vec![255; width * height * 3];
    let mut left = 0;
    for picture in &pictures {
        for (target, source) in rgb.chunks_exact_mut(width * 3).zip(picture.rgb.chunks_exact(picture.width * 3)) {
            target[left..left + source.len()].copy_from_slice(source);
        }
        left += picture.width * 3;
    }
    Picture { width, height, rgb }.png().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, shade: u8) -> Picture {
        Picture { width, height, rgb: vec![shade; width * height * 3] }
    }

    #[test]
    fn files_read_back_and_stack() {
        let (a, b) = (plain(3, 2, 10), plain(5, 1, 20));
        let both = stack(&[&a.png().unwrap(), &b.png().unwrap()]).unwrap();
        let both = Picture::read(&both).unwrap();
        assert_eq!((both.width, both.height), (5, 3));
        assert_eq!((both.rgb[0], both.rgb[9], both.rgb[2 * 15]), (10, 255, 20));
        let both = Picture::read(&beside(&[&a.png().unwrap(), &b.png().unwrap()]).unwrap()).unwrap();
        assert_eq!((both.width, both.height), (8, 2));
        assert_eq!((both.rgb[0], both.rgb[9], both.rgb[24 + 9]), (10, 20, 255));
        assert_eq!(stack(&[b"not a picture", &a.png().unwrap()]), None);
    }

    #[test]
    fn reducing_takes_the_mean() {
        let mut picture = plain(4, 2, 0);
        picture.rgb[..6].fill(200);
        let small = picture.reduced(2);
        assert_eq!((small.width, small.height, &small.rgb[..]), (2, 1, &[100, 100, 100, 0, 0, 0][..]));
    }
}
