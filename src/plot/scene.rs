//! A drawing as a list of shapes in logical pixels, from the top left corner.
//!
//! Figures draw into a scene once; `render` then turns the scene into SVG and into a bitmap, so the two cannot drift apart.

use kurbo::PathEl;

use super::text::printable;

/// Red, green, blue, and opacity in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Colour(pub u8, pub u8, pub u8, pub f64);

impl Colour {
    /// An opaque colour from `0xRRGGBB`.
    pub(crate) const fn hex(rgb: u32) -> Self {
        Self((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8, 1.0)
    }

    /// As HTML's styles write it.
    pub(crate) fn css(self) -> String {
        format!("#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }

    pub(crate) const fn faint(self, opacity: f64) -> Self {
        Self(self.0, self.1, self.2, opacity)
    }
}

pub(crate) type Point = (f64, f64);

/// Which point of the text its position is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// One line of text; `at` is on its baseline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub at: Point,
    pub text: String,
    /// Height of the em in logical pixels, as CSS counts it.
    pub size: f64,
    pub bold: bool,
    pub colour: Colour,
    pub anchor: Anchor,
    /// Reading upwards instead of to the right.
    pub turned: bool,
}

impl Label {
    /// A level, plain label.
    pub(crate) fn new(at: Point, text: &str, size: f64, colour: Colour, anchor: Anchor) -> Self {
        Self { at, text: text.to_owned(), size, bold: false, colour, anchor, turned: false }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Rectangle { from: Point, to: Point, colour: Colour },
    Polygon { points: Vec<Point>, colour: Colour },
    Circle { centre: Point, radius: f64, colour: Colour },
    Line { points: Vec<Point>, width: f64, colour: Colour },
    Text(Label),
}

/// What is said of a part of the picture when the pointer rests on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Area {
    pub from: Point,
    pub to: Point,
    pub title: String,
}

/// The shapes, later ones on top, and what they say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub width: f64,
    pub height: f64,
    pub shapes: Vec<Shape>,
    pub areas: Vec<Area>,
    /// The same as HTML that says more than a picture can, for notebooks: text to select, tables to scroll.
    pub html: Option<String>,
}

impl Scene {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        // The white ground makes dark text legible on a dark page too.
        let ground = Shape::Rectangle { from: (0.0, 0.0), to: (width, height), colour: Colour::hex(0xFFFFFF) };
        Self { width, height, shapes: vec![ground], areas: Vec::new(), html: None }
    }

    pub(crate) fn rectangle(&mut self, from: Point, to: Point, colour: Colour) {
        let (left, right) = (from.0.min(to.0), from.0.max(to.0));
        let (top, bottom) = (from.1.min(to.1), from.1.max(to.1));
        self.shapes.push(Shape::Rectangle { from: near((left, top)), to: near((right, bottom)), colour });
    }

    pub(crate) fn polygon(&mut self, points: Vec<Point>, colour: Colour) {
        self.shapes.push(Shape::Polygon { points: points.into_iter().map(near).collect(), colour });
    }

    pub(crate) fn circle(&mut self, centre: Point, radius: f64, colour: Colour) {
        self.shapes.push(Shape::Circle { centre: near(centre), radius, colour });
    }

    pub(crate) fn line(&mut self, points: Vec<Point>, width: f64, colour: Colour) {
        self.shapes.push(Shape::Line { points: points.into_iter().map(near).collect(), width, colour });
    }

    /// A line of `on` and `off` lengths in turn; an empty pattern is a solid line.
    pub(crate) fn dashed(&mut self, points: &[Point], width: f64, colour: Colour, pattern: &[f64]) {
        if pattern.is_empty() {
            return self.line(points.to_vec(), width, colour);
        }
        let points: Vec<Point> = points.iter().copied().map(near).collect();
        for dash in dashes(&points, pattern) {
            self.line(dash, width, colour);
        }
    }

    /// Says `title` of the rectangle between two corners, inside the picture; what is thin gets a few pixels to be met.
    pub(crate) fn hover(&mut self, from: Point, to: Point, title: String) {
        let side = |a: f64, b: f64, end: f64| {
            let (low, high) = (a.min(b), a.max(b));
            let missing = (LEAST_AREA - (high - low)).max(0.0) / 2.0;
            ((low - missing).clamp(0.0, end), (high + missing).clamp(0.0, end))
        };
        let ((left, right), (top, base)) = (side(from.0, to.0, self.width), side(from.1, to.1, self.height));
        if left < right && top < base {
            // Lines stay lines; what else cannot be shown is spelled.
            let title = title.split('\n').map(printable).collect::<Vec<_>>().join("\n");
            self.areas.push(Area { from: (left, top), to: (right, base), title });
        }
    }

    /// Text, where there is some.
    pub(crate) fn text(&mut self, label: Label) {
        if !label.text.is_empty() {
            let text = printable(&label.text).into_owned();
            self.shapes.push(Shape::Text(Label { text, at: near(label.at), ..label }));
        }
    }
}

/// The least side of what a pointer can meet.
const LEAST_AREA: f64 = 6.0;
/// How far from the picture's corner anything is drawn.
const FAR: f64 = 1e5;

/// A point within what plotters' whole numbers, and a row of dashes, can reach: values of every size are data. What is nowhere is far outside.
fn near(point: Point) -> Point {
    let within = |place: f64| if place.is_nan() { -FAR } else { place.clamp(-FAR, FAR) };
    (within(point.0), within(point.1))
}

/// The drawn stretches of a dashed path, corners included.
fn dashes(points: &[Point], pattern: &[f64]) -> Vec<Vec<Point>> {
    let place = |(at, &point): (usize, &Point)| if at == 0 { PathEl::MoveTo(point.into()) } else { PathEl::LineTo(point.into()) };
    let mut drawn: Vec<Vec<Point>> = Vec::new();
    for element in kurbo::dash(points.iter().enumerate().map(place), 0.0, pattern) {
        match (element, drawn.last_mut()) {
            (PathEl::LineTo(point), Some(stretch)) => stretch.push(point.into()),
            (PathEl::MoveTo(point), _) => drawn.push(vec![point.into()]),
            _ => {}
        }
    }
    // It keeps the first one back, which in a closed path might meet the last.
    let last = drawn.len().min(1);
    drawn.rotate_right(last);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_around_corners_and_keep_their_length() {
        let path = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)];
        let drawn = dashes(&path, &[8.0, 4.0]);
        assert_eq!(drawn, vec![vec![(0.0, 0.0), (8.0, 0.0)], vec![(10.0, 2.0), (10.0, 10.0)]]);
        let around = dashes(&path, &[12.0, 100.0]);
        assert_eq!(around, vec![vec![(0.0, 0.0), (10.0, 0.0), (10.0, 2.0)]]);
    }

    #[test]
    fn what_is_far_away_is_drawn_in_reach() {
        let mut scene = Scene::new(10.0, 10.0);
        scene.dashed(&[(0.0, f64::NEG_INFINITY), (1e300, 5.0), (f64::NAN, 5.0)], 1.0, Colour::hex(0), &[1e4, 1e4]);
        scene.text(Label::new((f64::NAN, f64::INFINITY), "a", 9.0, Colour::hex(0), Anchor::Start));
        assert!(scene.shapes.len() < 100 && matches!(&scene.shapes.last(), Some(Shape::Text(label)) if label.at == (-FAR, FAR)));
    }

    #[test]
    fn a_rectangle_may_be_given_from_any_corner() {
        let mut scene = Scene::new(10.0, 10.0);
        scene.rectangle((5.0, 6.0), (1.0, 2.0), Colour::hex(0));
        assert!(matches!(scene.shapes[1], Shape::Rectangle { from: (1.0, 2.0), to: (5.0, 6.0), .. }));
    }
}
