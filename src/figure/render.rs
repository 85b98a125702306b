//! From a scene to SVG and to PNG, through plotters' backends.

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters_backend::{BackendColor, BackendStyle, DrawingBackend, DrawingErrorKind};

use super::scene::{Colour, Point, Scene, Shape};
use super::text::{Style, printable};
use crate::display::picture::Picture;
use crate::error::{Error, Result};

/// Device pixels per logical pixel while drawing. plotters' coordinates are whole numbers, so this is also the precision of the SVG.
const SCALE: f64 = 4.0;
/// The bitmap is drawn larger and reduced, which smooths the edges; what remains is twice the logical size, for dense screens.
const REDUCE: usize = 2;

/// The scene as an SVG document of its logical size; `alt` becomes its accessible name.
pub(super) fn svg(scene: &Scene, alt: &str) -> Result<String> {
    let size = device_size(scene);
    let mut body = String::new();
    draw(scene, &mut SVGBackend::with_string(&mut body, size), false)?;
    // plotters opens the document at device size on the first line, without a name and with mitred corners.
    let shapes = body.split_once('\n').map_or("", |(_, rest)| rest);
    let alt = crate::display::escape(&printable(alt));
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{alt}\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{alt}</title>\n{shapes}",
        scene.width, scene.height, size.0, size.1
    ))
}

/// The scene as a PNG file of twice its logical size.
pub(super) fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = device_size(scene);
    let mut rgb = vec![255; width as usize * height as usize * 3];
    draw(scene, &mut BitMapBackend::with_buffer(&mut rgb, (width, height)), true)?;
    Picture { width: width as usize, height: height as usize, rgb }.reduced(REDUCE).png()
}

fn device_size(scene: &Scene) -> (u32, u32) {
    ((scene.width * SCALE).round() as u32, (scene.height * SCALE).round() as u32)
}

/// Colour and width of a stroke or a fill, as plotters' backends want them.
struct Ink {
    colour: Colour,
    width: u32,
}

impl BackendStyle for Ink {
    fn color(&self) -> BackendColor {
        BackendColor { alpha: self.colour.3, rgb: (self.colour.0, self.colour.1, self.colour.2) }
    }

    fn stroke_width(&self) -> u32 {
        self.width
    }
}

/// Draws every shape. `own_strokes`: as rectangles with round ends, because plotters' bitmaps join thick lines badly.
fn draw<B: DrawingBackend>(scene: &Scene, backend: &mut B, own_strokes: bool) -> Result<()> {
    let at = |point: Point| ((point.0 * SCALE).round() as i32, (point.1 * SCALE).round() as i32);
    backend.ensure_prepared().map_err(failed)?;
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle { from, to, colour } => backend.draw_rect(at(*from), at(*to), &Ink { colour: *colour, width: 1 }, true),
            Shape::Polygon { points, colour } => backend.fill_polygon(points.iter().copied().map(at), &Ink { colour: *colour, width: 1 }),
            Shape::Circle { centre, radius, colour } => {
                backend.draw_circle(at(*centre), (radius * SCALE).round() as u32, &Ink { colour: *colour, width: 1 }, true)
            }
            Shape::Line { points, width, colour } if own_strokes => stroke(backend, points, *width, *colour),
            Shape::Line { points, width, colour } => {
                backend.draw_path(points.iter().copied().map(at), &Ink { colour: *colour, width: (width * SCALE).round().max(1.0) as u32 })
            }
            Shape::Text(label) => {
                let style = Style { label, scale: SCALE };
                backend.draw_text(&label.text, &style, style.position())
            }
        }
        .map_err(failed)?;
    }
    backend.present().map_err(failed)
}

/// A thick line: one rectangle per piece, and a disc on every joint.
fn stroke<B: DrawingBackend>(backend: &mut B, points: &[Point], width: f64, colour: Colour) -> Result<(), DrawingErrorKind<B::ErrorType>> {
    let ink = Ink { colour, width: 1 };
    let half = width * SCALE / 2.0;
    for ends in points.windows(2) {
        let (from, to) = ((ends[0].0 * SCALE, ends[0].1 * SCALE), (ends[1].0 * SCALE, ends[1].1 * SCALE));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        if length == 0.0 {
            continue;
        }
        let (across, along) = ((from.1 - to.1) / length * half, (to.0 - from.0) / length * half);
        let corner = |end: Point, side: f64| ((end.0 + side * across).round() as i32, (end.1 + side * along).round() as i32);
        // Level lines (grids, axes) stay crisp as rectangles.
        if from.0 == to.0 || from.1 == to.1 {
            let (a, b) = (corner(from, 1.0), corner(to, -1.0));
            backend.draw_rect((a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1)), &ink, true)?;
        } else {
            backend.fill_polygon([corner(from, 1.0), corner(to, 1.0), corner(to, -1.0), corner(from, -1.0)], &ink)?;
        }
    }
    if points.len() > 2 {
        for joint in &points[1..points.len() - 1] {
            backend.draw_circle(((joint.0 * SCALE).round() as i32, (joint.1 * SCALE).round() as i32), half.round() as u32, &ink, true)?;
        }
    }
    Ok(())
}

fn failed<E: std::error::Error + Send + Sync>(error: DrawingErrorKind<E>) -> Error {
    Error::internal(format!("cannot draw a figure: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::scene::{Anchor, Label};

    fn scene() -> Scene {
        let mut scene = Scene::new(40.0, 30.0);
        let blue = Colour::hex(0x0000FF);
        scene.rectangle((5.0, 5.0), (15.0, 25.0), blue);
        scene.line(vec![(20.0, 5.0), (30.0, 25.0), (38.0, 5.0)], 2.0, blue);
        scene.polygon(vec![(20.0, 20.0), (25.0, 20.0), (22.0, 25.0)], blue.faint(0.5));
        let text = "a<b & \"c\"".to_owned();
        scene.text(Label { at: (2.0, 28.0), text, size: 8.0, bold: true, colour: blue, anchor: Anchor::Start, turned: false });
        scene
    }

    #[test]
    fn svg_is_of_logical_size_named_and_escaped() {
        let svg = svg(&scene(), "a < b").unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"30\" viewBox=\"0 0 160 120\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>") && svg.contains("a&lt;b &amp; &quot;c&quot;"));
        assert!(svg.trim_end().ends_with("</svg>") && svg.matches("<svg").count() == 1);
    }

    #[test]
    fn png_is_twice_the_logical_size_and_drawn() {
        let png = png(&scene()).unwrap();
        let picture = Picture::read(&png).unwrap();
        assert_eq!((picture.width, picture.height), (80, 60));
        let pixel = |x: usize, y: usize| &picture.rgb[(y * 80 + x) * 3..][..3];
        assert_eq!((pixel(1, 1), pixel(20, 30)), (&[255, 255, 255][..], &[0, 0, 255][..]));
    }
}
