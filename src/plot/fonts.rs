//! The fonts that pictures are set in: the embedded one, and for letters that it lacks those of the system.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use ab_glyph::{Font, FontRef};
use resvg::usvg::fontdb::{Database, FaceInfo, ID, Source, Style};
use resvg::usvg::{FontResolver, Options};

// Both files are subsets (Latin, Greek, Cyrillic, arrows, mathematics, signs for spaces and breaks) of DejaVu Sans 2.37; see font/LICENSE-DejaVu.txt.
pub(crate) const REGULAR_BYTES: &[u8] = include_bytes!("font/DejaVuSans.ttf");
pub(crate) const BOLD_BYTES: &[u8] = include_bytes!("font/DejaVuSans-Bold.ttf");
static REGULAR: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(REGULAR_BYTES).ok());
static BOLD: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(BOLD_BYTES).ok());

/// A file or folder of fonts of one's own.
const VARIABLE: &str = "IA2_FONTS";
/// Where `cargo xtask fonts` puts what it fetches.
const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.ia2/fonts");

/// The embedded font.
pub(crate) fn own(bold: bool) -> Option<&'static FontRef<'static>> {
    if bold { BOLD.as_ref() } else { REGULAR.as_ref() }
}

/// Does the embedded font have this letter?
pub(crate) fn is_own(letter: char) -> bool {
    own(false).is_some_and(|font| font.glyph_id(letter).0 != 0)
}

/// A face of the system, with the letters that it adds and their widths in thousandths of an em, in ascending order.
struct Other {
    id: ID,
    letters: Vec<(char, u16)>,
}

struct Fonts {
    database: Arc<Database>,
    own: [Option<ID>; 2],
    others: Vec<Other>,
}

/// Without the system's, which most pictures do not need: they look the same on every machine.
static OWN: LazyLock<Fonts> = LazyLock::new(|| Fonts::of(false));
/// With the system's, read once, when a letter first asks for them.
static ALL: LazyLock<Fonts> = LazyLock::new(|| Fonts::of(true));

impl Fonts {
    fn of(system: bool) -> Self {
        let mut database = Database::new();
        let own = [REGULAR_BYTES, BOLD_BYTES].map(|bytes| database.load_font_source(Source::Binary(Arc::new(bytes))).first().copied());
        if system {
            folders(&mut database);
            database.load_system_fonts();
        }
        let mut others: Vec<(bool, u16, Other)> = database
            .faces()
            .filter(|face| !own.contains(&Some(face.id)) && is_plain(face))
            .filter_map(|face| {
                let letters = database.with_face_data(face.id, letters).flatten()?;
                // Dots on a raster, one for every letter there is: better than a number, worse than any other.
                let last = face.families.iter().any(|(name, _)| name.contains("Unifont"));
                (!letters.is_empty()).then(|| (last, face.weight.0.abs_diff(400), Other { id: face.id, letters }))
            })
            .collect();
        // The widest first: a text in one script stays in one font.
        others.sort_by_key(|(last, weight, other)| (*last, std::cmp::Reverse(other.letters.len()), *weight));
        Self { database: Arc::new(database), own, others: others.into_iter().map(|(.., other)| other).collect() }
    }

    fn find(&self, letter: char) -> Option<(ID, u16)> {
        let of = |other: &Other| {
            other.letters.binary_search_by_key(&letter, |found| found.0).ok().map(|place| (other.id, other.letters[place].1))
        };
        self.others.iter().find_map(of)
    }
}

fn folders(database: &mut Database) {
    let asked = std::env::var_os(VARIABLE).map(PathBuf::from);
    for path in asked.into_iter().chain([PathBuf::from(FETCHED)]) {
        match path.is_file() {
            // A file that is no font has no letters, and the picture says which it lacks.
            true => drop(database.load_font_file(&path)),
            false => database.load_fonts_dir(&path),
        }
    }
}

/// Upright, not bold (a font of many weights counts as its lightest), with outlines: pictures of emoji have none.
fn is_plain(face: &FaceInfo) -> bool {
    let named = |part: &str| face.families.iter().any(|(name, _)| name.contains(part));
    face.weight.0 <= 500 && face.style == Style::Normal && !named("Color Emoji") && !named("Last Resort") && !named("Mono")
}

/// Letters of one block.
const BLOCK: u32 = 64;

/// What a face has besides the embedded font's letters.
fn letters(data: &[u8], index: u32) -> Option<Vec<(char, u16)>> {
    let font = FontRef::try_from_slice_and_index(data, index).ok()?;
    let em = font.units_per_em()?;
    let wide = |id| (font.h_advance_unscaled(id) / em * 1000.0).clamp(0.0, 60_000.0) as u16;
    // Of letters that share a glyph (a radical and the sign it is), ab_glyph lists one: so each block that has some is asked letter by letter.
    let blocks: BTreeSet<u32> = font.codepoint_ids().map(|(_, letter)| letter as u32 / BLOCK).collect();
    let all = blocks.into_iter().flat_map(|block| block * BLOCK..(block + 1) * BLOCK).filter_map(char::from_u32);
    let there = all.filter(|letter| !is_own(*letter)).map(|letter| (letter, font.glyph_id(letter)));
    Some(there.filter(|(_, id)| id.0 != 0).map(|(letter, id)| (letter, wide(id))).collect())
}

/// The width of a letter that the embedded font lacks, in ems; `None` where no font has it.
pub(crate) fn width(letter: char) -> Option<f64> {
    ALL.find(letter).map(|(_, thousandths)| f64::from(thousandths) / 1000.0)
}

/// How resvg finds its fonts: the embedded one whatever is asked for, and another `foreign` letter by letter.
pub(crate) fn options(foreign: bool) -> Options<'static> {
    let fonts: &'static Fonts = if foreign { &ALL } else { &OWN };
    let font_resolver = FontResolver {
        select_font: Box::new(move |font, _| fonts.own[usize::from(font.weight() >= 600)]),
        select_fallback: Box::new(move |letter, used, _| fonts.find(letter).map(|(id, _)| id).filter(|id| !used.contains(id))),
    };
    Options { fontdb: fonts.database.clone(), font_resolver, ..Options::default() }
}
