//! PNG files: 8-bit RGB, written and read back to be placed below each other.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// A picture of 8-bit red, green and blue, row by row from the top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Picture {
    /// The bytes of a PNG file, with a palette: a third of the size, which a notebook carries for good.
    ///
    /// A drawing has few colours besides the blends along its edges. The 256 most frequent stay exact; the rest take the nearest.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let failed = |error: png::EncodingError| Error::internal("cannot encode a picture as PNG").because(error);
        let (palette, indices) = self.indexed();
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(palette.concat());
        encoder.set_compression(png::Compression::High);
        // Differences between palette indices mean nothing.
        encoder.set_filter(png::Filter::NoFilter);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&indices).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(out)
    }

    fn indexed(&self) -> (Vec<[u8; 3]>, Vec<u8>) {
        // Runs of one colour, which most of a drawing is: looking each pixel up would take far longer.
        let mut runs: Vec<([u8; 3], usize)> = Vec::new();
        for pixel in self.rgb.chunks_exact(3) {
            match runs.last_mut() {
                Some((colour, length)) if colour == pixel => *length += 1,
                _ => runs.push(([pixel[0], pixel[1], pixel[2]], 1)),
            }
        }
        let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
        for (colour, length) in &runs {
            *counts.entry(*colour).or_default() += length;
        }
        let mut frequent: Vec<([u8; 3], usize)> = counts.into_iter().collect();
        // The colour itself decides between equal counts, so that a picture's bytes never change from run to run.
        frequent.sort_by_key(|&(colour, count)| (std::cmp::Reverse(count), colour));
        let palette: Vec<[u8; 3]> = frequent.iter().take(256).map(|&(colour, _)| colour).collect();
        let distance =
            |a: [u8; 3], b: [u8; 3]| (0..3).map(|channel| a[channel].abs_diff(b[channel]) as u32).map(|gap| gap * gap).sum::<u32>();
        let nearest = |colour| (0..palette.len()).min_by_key(|&at| distance(palette[at], colour)).unwrap_or_default() as u8;
        let index: HashMap<[u8; 3], u8> =
            frequent.iter().enumerate().map(|(at, &(colour, _))| (colour, u8::try_from(at).unwrap_or_else(|_| nearest(colour)))).collect();
        let mut indices = Vec::with_capacity(self.width * self.height);
        for (colour, length) in runs {
            indices.resize(indices.len() + length, index.get(&colour).copied().unwrap_or_default());
        }
        (palette, indices)
    }

    /// Reads a PNG file of 8-bit colours without transparency, as `png` writes them.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().ok()?;
        let mut rgb = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut rgb).ok()?;
        let eight_bit_rgb = info.color_type == png::ColorType::Rgb && info.bit_depth == png::BitDepth::Eight;
        eight_bit_rgb.then_some(Self { width: info.width as usize, height: info.height as usize, rgb })
    }
}

/// Several PNG files as one, below each other on white; `None` if one is not a picture of ours.
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

/// Several PNG files as one, side by side on white, their tops level; `None` if one is not a picture of ours.
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
    fn up_to_256_colours_are_exact_and_more_come_close() {
        let wheel = |colours: u32| Picture {
            width: colours as usize,
            height: 1,
            rgb: (0..colours).flat_map(|at| [at as u8, (at >> 3) as u8, 7]).collect(),
        };
        let few = wheel(256);
        assert_eq!(Picture::read(&few.png().unwrap()).unwrap(), few);
        let many = wheel(2048);
        let back = Picture::read(&many.png().unwrap()).unwrap();
        let worst = many.rgb.iter().zip(&back.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(back.rgb.len() == many.rgb.len() && worst < 255, "{worst}");
        assert_eq!(many.png().unwrap(), many.png().unwrap());
    }
}
