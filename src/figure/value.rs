//! The finished picture as a value: shown in a notebook, saved to a file, set next to others.

use std::fmt;
use std::path::Path;

use polars::prelude::DataFrame;

use crate::display::{self, Bundle, Show, picture};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::plot::render;
use crate::plot::scene::{Area, Scene};

/// The width in pixels that a notebook page has at least.
const PAGE: u32 = 800;
/// The most parts of a picture that say something in a notebook, which keeps every one: about 150 bytes each.
const MOST_AREAS: usize = 700;

/// A picture with its description and the frame it was drawn from.
#[derive(Clone)]
pub struct Figure {
    svg: String,
    png: Vec<u8>,
    alt: String,
    frame: DataFrame,
    width: u32,
    height: u32,
    areas: Vec<Area>,
    /// What a notebook shows in place of the picture, where it keeps styles.
    own: Option<String>,
}

impl Figure {
    /// Of a builder's scene and description: one call to whoever interrupts it, asked before it reads and before it draws.
    pub(super) fn drawn(frame: &DataFrame, scene: impl FnOnce() -> Result<(Scene, String)>) -> Result<Self> {
        interrupt::during("drawing", || {
            interrupt::check()?;
            let (scene, alt) = scene()?;
            interrupt::check()?;
            Self::of(&scene, alt, frame)
        })
    }

    pub(super) fn of(scene: &Scene, alt: String, frame: &DataFrame) -> Result<Self> {
        let svg = render::svg(scene, &alt)?;
        let png = render::png(scene, &svg)?;
        let (width, height) = (scene.width as u32, scene.height as u32);
        Ok(Self { svg, png, alt, frame: frame.clone(), width, height, areas: scene.areas.clone(), own: scene.html.clone() })
    }

    /// The picture as an SVG document, for paper and web pages.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The bytes of the picture as a PNG file of twice its logical size, for dense screens.
    pub fn png(&self) -> &[u8] {
        &self.png
    }

    /// What the picture shows, in words.
    pub fn alt(&self) -> &str {
        &self.alt
    }

    /// The frame the picture was drawn from.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// Writes the picture to a file, as SVG or PNG by the path's extension. A file that was there is replaced whole or not at all.
    ///
    /// # Errors
    /// The extension is neither `.svg` nor `.png`, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let bytes = match extension.as_deref() {
            Some("svg") => self.svg.as_bytes(),
            Some("png") => &self.png,
            _ => return Err(Error::input(format!("figure: `{}` ends in neither .svg nor .png", path.display()))),
        };
        file::write(path, bytes)
    }

    /// HTML that shows the picture anywhere: no inline SVG, which many notebook viewers drop. Over the picture lie transparent elements whose
    /// titles say what is below the pointer. They are placed in shares of the picture, so that they fit however wide it is shown; JupyterLab
    /// keeps their few styles in notebooks that it does not trust, too, where it takes the name off a `<map>`. Without styles nothing is seen of them.
    /// A figure of text is that text, coloured, and the picture stands hidden before it.
    fn html(&self, width: &str) -> String {
        let image = |style: &str| {
            format!(
                "<img src=\"data:image/png;base64,{}\" width=\"{width}\" alt=\"{}\"{style}>",
                display::base64(&self.png),
                display::escape(&self.alt)
            )
        };
        if let Some(own) = &self.own {
            // Where styles are dropped, the picture appears in place of the colours.
            return format!("<div style=\"display:none\">{}</div>\n{own}", image(""));
        }
        if self.areas.is_empty() || self.areas.len() > MOST_AREAS {
            return image("");
        }
        let share =
            |place: f64, of: u32| format!("{:.2}", 100.0 * place / f64::from(of)).trim_end_matches('0').trim_end_matches('.').to_owned();
        let one = |area: &Area| {
            let [left, wide] = [area.from.0, area.to.0 - area.from.0].map(|length| share(length, self.width));
            let [top, high] = [area.from.1, area.to.1 - area.from.1].map(|length| share(length, self.height));
            let title = display::escape(&area.title).replace('\n', "&#10;");
            format!("<i title=\"{title}\" style=\"position:absolute;left:{left}%;top:{top}%;width:{wide}%;height:{high}%\"></i>")
        };
        let areas: String = self.areas.iter().map(one).collect();
        let image = image(" style=\"display:block\"");
        format!("<div style=\"position:relative;display:inline-block\">{image}{areas}</div>")
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Figure({})", self.alt)
    }
}

impl Show for Figure {
    fn bundle(&self) -> Bundle {
        Bundle {
            plain: format!("[figure] {}", self.alt),
            html: Some(self.html(&self.width.to_string())),
            png: Some(self.png.clone()),
            alt: self.alt.clone(),
        }
    }
}

/// Several figures as one value, because a notebook cell shows one.
#[derive(Clone, Debug)]
pub struct Figures {
    figures: Vec<Figure>,
    beside: bool,
}

impl Figures {
    /// Side by side.
    pub fn row(figures: impl IntoIterator<Item = Figure>) -> Self {
        Self { figures: figures.into_iter().collect(), beside: true }
    }

    /// Below each other.
    pub fn column(figures: impl IntoIterator<Item = Figure>) -> Self {
        Self { figures: figures.into_iter().collect(), beside: false }
    }

    /// The figures, in order.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }
}

impl Figures {
    /// A table of one row, without styles: JupyterLab sets each image that stands alone on a line of its own. A row that is wider than a
    /// page shares its width.
    fn row_html(&self) -> String {
        let all: u32 = self.figures.iter().map(|figure| figure.width).sum();
        let cell = |figure: &Figure| match all {
            ..=PAGE => format!("<td>{}</td>", figure.html(&figure.width.to_string())),
            _ => format!("<td width=\"{}%\">{}</td>", (100 * figure.width).div_ceil(all), figure.html("100%")),
        };
        let width = if all <= PAGE { "" } else { " width=\"100%\"" };
        format!("<table{width}><tr>\n{}\n</tr></table>", self.figures.iter().map(cell).collect::<Vec<_>>().join("\n"))
    }
}

impl Show for Figures {
    fn bundle(&self) -> Bundle {
        let parts: Vec<Bundle> = self.figures.iter().map(Show::bundle).collect();
        if !self.beside || parts.len() < 2 {
            return parts.bundle();
        }
        let pictures: Vec<&[u8]> = self.figures.iter().map(Figure::png).collect();
        let png = picture::beside(&pictures);
        Bundle { html: Some(self.row_html()), png, ..Bundle::stack(parts.into_iter().map(|part| Bundle { png: None, ..part }).collect()) }
    }
}
