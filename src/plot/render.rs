//! From a scene to SVG, by plotters, and from there to PNG, by resvg.

use plotters::backend::SVGBackend;
use plotters_backend::{BackendColor, BackendStyle, DrawingBackend, DrawingErrorKind};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::Tree;

use super::fonts;
use super::scene::{Colour, Point, Scene, Shape};
use super::text::{Style, is_foreign, printable, spelled};
use crate::display::escape;
use crate::display::picture::Picture;
use crate::error::{Error, Result};

/// Device pixels per logical pixel in the SVG. plotters' coordinates are whole numbers, so this is its precision.
const SCALE: f64 = 4.0;
/// Pixels of a PNG per logical pixel, for dense screens.
const DENSE: f64 = 2.0;

/// The scene as an SVG document of its logical size; `alt` becomes its accessible name, and what its parts say appears under the pointer.
pub(crate) fn svg(scene: &Scene, alt: &str) -> Result<String> {
    document(scene, alt, scene.shapes.iter(), true)
}

/// The scene as a PNG file of twice its logical size. `svg` is what [`svg`] made of it.
pub(crate) fn png(scene: &Scene, svg: &str) -> Result<Vec<u8>> {
    let texts = || scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(&label.text) } else { None });
    let foreign = texts().any(|text| is_foreign(text));
    // A picture has no viewer that could find another font.
    let shapes: Vec<Shape> = match foreign && texts().any(|text| spelled(text) != *text) {
        true => scene.shapes.iter().cloned().map(readable).collect(),
        false => Vec::new(),
    };
    let own = if shapes.is_empty() { None } else { Some(document(scene, "", shapes.iter(), false)?) };
    pixels(own.as_deref().unwrap_or(svg), foreign, DENSE)
}

/// An SVG document of ours as a PNG file, `dense` times as large; `foreign` where it has letters that the embedded font lacks.
pub(crate) fn pixels(svg: &str, foreign: bool, dense: f64) -> Result<Vec<u8>> {
    let failed = |what: &str| Error::internal(format!("cannot turn a figure into pixels: {what}"));
    let tree = Tree::from_str(svg, &fonts::options(foreign)).map_err(|error| failed(&error.to_string()))?;
    let [width, height] = [tree.size().width(), tree.size().height()].map(|length| (f64::from(length) * dense).round() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| failed(&format!("{width} x {height} are too many")))?;
    resvg::render(&tree, Transform::from_scale(dense as f32, dense as f32), &mut pixels.as_mut());
    // The white ground leaves nothing transparent.
    let rgb = pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Picture { width: width as usize, height: height as usize, rgb }.png()
}

fn readable(shape: Shape) -> Shape {
    match shape {
        Shape::Text(mut label) => {
            label.text = spelled(&label.text).into_owned();
            Shape::Text(label)
        }
        other => other,
    }
}

fn document<'a>(scene: &Scene, alt: &str, shapes: impl Iterator<Item = &'a Shape>, hover: bool) -> Result<String> {
    let size = ((scene.width * SCALE).round() as u32, (scene.height * SCALE).round() as u32);
    let mut body = String::new();
    draw(shapes, &mut SVGBackend::with_string(&mut body, size))?;
    // plotters opens the document at device size on the first line, without a name and with mitred corners, and sets text half an `x` lower,
    // whatever the font's x is: ours stands on its baseline.
    let shapes = body.split_once('\n').map_or("", |(_, rest)| rest).trim_end().trim_end_matches("</svg>").replace(" dy=\"0.5ex\"", "");
    let alt = escape(&printable(alt));
    let areas: String = scene
        .areas
        .iter()
        .filter(|_| hover)
        .map(|area| {
            let [x, y] = [area.from.0, area.from.1].map(|place| (place * SCALE).round());
            let [wide, high] = [area.to.0 - area.from.0, area.to.1 - area.from.1].map(|length| (length * SCALE).round());
            let title = escape(&area.title);
            format!("<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" fill=\"none\" pointer-events=\"all\"><title>{title}</title></rect>\n")
        })
        .collect();
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{alt}\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{alt}</title>\n{shapes}{areas}</svg>\n",
        scene.width, scene.height, size.0, size.1
    ))
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

/// Draws every shape.
fn draw<'a, B: DrawingBackend>(shapes: impl Iterator<Item = &'a Shape>, backend: &mut B) -> Result<()> {
    let at = |point: Point| ((point.0 * SCALE).round() as i32, (point.1 * SCALE).round() as i32);
    let fill = |colour: &Colour| Ink { colour: *colour, width: 1 };
    backend.ensure_prepared().map_err(failed)?;
    for shape in shapes {
        match shape {
            Shape::Rectangle { from, to, colour } => backend.draw_rect(at(*from), at(*to), &fill(colour), true),
            Shape::Polygon { points, colour } => backend.fill_polygon(points.iter().copied().map(at), &fill(colour)),
            Shape::Circle { centre, radius, colour } => {
                backend.draw_circle(at(*centre), (radius * SCALE).round() as u32, &fill(colour), true)
            }
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

fn failed<E: std::error::Error + Send + Sync>(error: DrawingErrorKind<E>) -> Error {
    Error::internal(format!("cannot draw a figure: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::scene::{Anchor, Label};

    fn scene(text: &str) -> Scene {
        let mut scene = Scene::new(40.0, 30.0);
        let blue = Colour::hex(0x0000FF);
        scene.rectangle((5.0, 5.0), (15.0, 25.0), blue);
        scene.line(vec![(20.0, 5.0), (30.0, 25.0), (38.0, 5.0)], 2.0, blue);
        scene.polygon(vec![(20.0, 20.0), (25.0, 20.0), (22.0, 25.0)], blue.faint(0.5));
        scene.hover((5.0, 5.0), (15.0, 25.0), "5 < 7".to_owned());
        scene.text(Label {
            at: (2.0, 28.0),
            text: text.to_owned(),
            size: 8.0,
            bold: true,
            colour: blue,
            anchor: Anchor::Start,
            turned: false,
        });
        scene
    }

    fn picture(scene: &Scene) -> Picture {
        Picture::read(&png(scene, &svg(scene, "").unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn svg_is_of_logical_size_named_and_escaped_and_says_what_its_parts_are() {
        let svg = svg(&scene("a<b & \"c\""), "a < b").unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"30\" viewBox=\"0 0 160 120\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>") && svg.contains("a&lt;b &amp; &quot;c&quot;"));
        assert!(svg.contains(
            "<rect x=\"20\" y=\"20\" width=\"40\" height=\"80\" fill=\"none\" pointer-events=\"all\"><title>5 &lt; 7</title></rect>"
        ));
        assert!(svg.trim_end().ends_with("</svg>") && svg.matches("<svg").count() == 1 && svg.matches("</svg>").count() == 1);
        // A moved baseline would move with the viewer's font.
        assert!(!svg.contains("dy="), "{svg}");
    }

    #[test]
    fn png_is_twice_the_logical_size_and_drawn() {
        let picture = picture(&scene("a"));
        assert_eq!((picture.width, picture.height), (80, 60));
        let pixel = |x: usize, y: usize| &picture.rgb[(y * 80 + x) * 3..][..3];
        assert_eq!((pixel(1, 1), pixel(20, 30)), (&[255, 255, 255][..], &[0, 0, 255][..]));
    }

    #[test]
    fn letters_are_drawn_in_some_font_or_spelled() {
        let blank = picture(&scene(""));
        let inked = |text: &str| picture(&scene(text)).rgb.iter().zip(&blank.rgb).filter(|(a, b)| a != b).count();
        // No font has a letter for private use: its number takes the room of many letters.
        assert!(inked("\u{10fffd}") > 3 * inked("a"), "{} {}", inked("\u{10fffd}"), inked("a"));
        for text in ["今", "م", "ש", "\u{1f600}", "é", "→"] {
            assert!(inked(text) > 20, "{text}: {}", inked(text));
        }
    }
}
