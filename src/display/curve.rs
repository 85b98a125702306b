//! A small line chart that is drawn again and again while work goes on: an SVG of a few kilobytes, for which nothing is rasterised.

use std::fmt::Write;

use super::{Bundle, base64, escape, number};

/// Points kept of one line: more than the picture has columns for.
const POINTS: usize = 400;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 160.0;
/// Room for the numbers at the left, and above and below the lines.
const LEFT: f64 = 64.0;
const EDGE: f64 = 18.0;
/// Colours that colour-blind readers can tell apart; the second line is dashed as well.
const STROKES: [(&str, &str); 2] = [("#0072b2", ""), ("#d55e00", " stroke-dasharray=\"6 3\"")];

/// Values over steps, the mean of several neighbours where there are very many.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    points: Vec<(f64, f64)>,
    /// Values that make one point.
    each: usize,
    sum: (f64, f64),
    count: usize,
}

impl Curve {
    pub(crate) fn new() -> Self {
        Self { points: Vec::new(), each: 1, sum: (0.0, 0.0), count: 0 }
    }

    /// A value at a step; one that is not finite is left out.
    pub(crate) fn add(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.sum = (self.sum.0 + step as f64, self.sum.1 + value);
        self.count += 1;
        if self.count < self.each {
            return;
        }
        self.points.push((self.sum.0 / self.count as f64, self.sum.1 / self.count as f64));
        (self.sum, self.count) = ((0.0, 0.0), 0);
        if self.points.len() >= POINTS {
            self.points = self.points.chunks(2).map(middle).collect();
            self.each *= 2;
        }
    }
}

fn middle(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    (points.iter().map(|point| point.0).sum::<f64>() / count, points.iter().map(|point| point.1).sum::<f64>() / count)
}

/// Up to two lines with their names, as a picture inside HTML; `None` as long as no line has two points.
pub(crate) fn curves(title: &str, lines: &[(&str, &Curve)]) -> Option<Bundle> {
    let lines: Vec<_> = lines.iter().zip(STROKES).filter(|((_, curve), _)| curve.points.len() >= 2).collect();
    if lines.is_empty() {
        return None;
    }
    let points = || lines.iter().flat_map(|((_, curve), _)| &curve.points);
    let (mut low, mut high) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let (from, to) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), point| (from.min(point.0), to.max(point.0)));
    let named = [high, low].map(number);
    if high <= low {
        (low, high) = (low - 1.0, high + 1.0);
    }
    let x = |step: f64| LEFT + (step - from) / (to - from) * (WIDTH - LEFT - EDGE);
    let y = |value: f64| EDGE + (high - value) / (high - low) * (HEIGHT - 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><path d=\"M{LEFT} {EDGE}V{}H{}\" fill=\"none\" stroke=\"#888\"/>",
        HEIGHT - EDGE,
        WIDTH - EDGE
    );
    // Writing to a string cannot fail.
    let text = |svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, text: &str| {
        let _ = write!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>", at.0, at.1, escape(text));
    };
    text(&mut svg, (LEFT - 4.0, EDGE + 4.0), "end", "#333", &named[0]);
    text(&mut svg, (LEFT - 4.0, HEIGHT - EDGE + 4.0), "end", "#333", &named[1]);
    text(&mut svg, (LEFT, HEIGHT - 4.0), "start", "#333", &format!("step {from:.0}"));
    text(&mut svg, (WIDTH - EDGE, HEIGHT - 4.0), "end", "#333", &format!("{to:.0}"));
    let mut alt = title.to_owned();
    for (place, ((name, curve), (colour, dash))) in lines.iter().enumerate() {
        let last = curve.points.last().map_or(f64::NAN, |point| point.1);
        text(&mut svg, (WIDTH - EDGE, 14.0 + 14.0 * place as f64), "end", colour, &format!("{name} {}", number(last)));
        let at = curve.points.last().map_or(f64::NAN, |point| point.0);
        let _ = write!(alt, "; {name} {} at step {at:.0}", number(last));
        let path: Vec<String> = curve.points.iter().map(|point| format!("{:.0},{:.1}", x(point.0), y(point.1))).collect();
        let path = path.join(" ");
        let _ = write!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}/>");
    }
    svg.push_str("</svg>");
    let html = format!("<img src=\"data:image/svg+xml;base64,{}\" alt=\"{}\">", base64(svg.as_bytes()), escape(&alt));
    Some(Bundle { html: Some(html), ..Bundle::text(alt) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_shape_in_few_points() {
        let mut curve = Curve::new();
        for step in 0..100_000 {
            curve.add(step, step as f64 * 2.0);
        }
        curve.add(100_000, f64::NAN);
        assert!((POINTS / 2..POINTS).contains(&curve.points.len()), "{}", curve.points.len());
        assert!(curve.points.iter().all(|point| point.1 == point.0 * 2.0), "means of a straight line lie on it");
        assert!(curve.points.windows(2).all(|two| two[0].0 < two[1].0));
    }

    #[test]
    fn a_picture_comes_with_the_second_point_and_says_what_it_shows() {
        let (mut train, mut dev) = (Curve::new(), Curve::new());
        train.add(1, 2.0);
        assert_eq!(curves("loss", &[("train", &train), ("dev", &dev)]), None);
        train.add(11, 0.5);
        dev.add(11, 0.75);
        let one = curves("loss", &[("train", &train), ("dev", &dev)]).unwrap();
        assert_eq!(one.plain, "loss; train 0.5 at step 11");
        dev.add(21, 0.25);
        let both = curves("loss", &[("train", &train), ("dev", &dev)]).unwrap();
        assert_eq!(both.plain, "loss; train 0.5 at step 11; dev 0.25 at step 21");
        let html = both.html.unwrap();
        assert!(html.starts_with("<img src=\"data:image/svg+xml;base64,") && html.ends_with("dev 0.25 at step 21\">"), "{html}");
    }

    #[test]
    fn a_level_line_lies_in_the_middle() {
        let mut level = Curve::new();
        (0..3).for_each(|step| level.add(step, 1.0));
        assert!(curves("loss", &[("train", &level)]).is_some());
    }
}
