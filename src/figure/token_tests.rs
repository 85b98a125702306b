//! Figures of tokens: text, tables that scroll, heads, differences, rows of maps.

use super::extreme::Picture;
use super::*;
use crate::display::Show;
use crate::plot::scene::{Colour, Scene, Shape};

fn extreme(name: &str) -> (Picture, DataFrame) {
    (extreme::pictures().into_iter().find(|(own, _)| *own == name).unwrap().1)().unwrap()
}

fn scene(name: &str) -> (Scene, String) {
    let (picture, frame) = extreme(name);
    picture.scene(&frame).unwrap()
}

fn says(scene: &Scene, text: &str) -> bool {
    scene.shapes.iter().any(|shape| matches!(shape, Shape::Text(label) if label.text == text))
}

fn titled<'a>(scene: &'a Scene, beginning: &str) -> Vec<&'a crate::plot::scene::Area> {
    scene.areas.iter().filter(|area| area.title.starts_with(beginning)).collect()
}

/// What JupyterLab keeps of inline styles in a notebook that it does not trust (`allowedStyles` of its sanitiser), of which figures use these.
const KEPT: [&str; 12] = [
    "background-color",
    "border",
    "border-spacing",
    "color",
    "display",
    "line-height",
    "margin",
    "overflow",
    "padding",
    "white-space",
    "width",
    "z-index",
];
/// What it drops, and where that is meant.
const DROPPED: [&str; 4] = ["position", "top", "left", "max-height"];

fn styles(html: &str) -> std::collections::BTreeSet<&str> {
    let declared = html.split("style=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).flat_map(|style| style.split(';'));
    declared.filter(|one| !one.is_empty()).map(|one| one.split(':').next().unwrap()).collect()
}

#[test]
fn coloured_text_is_text_on_its_colours_with_the_picture_hidden_before_it() {
    let frame = df!("token" => ["A", "·<b>", "\\n", "x", "<0xE4><0xBB>", "<0x8A>"], "loss" => [None, Some(0.0), Some(2.0), Some(4.0), Some(1.0), Some(3.0)]).unwrap();
    let figure = token_text("token", "loss").title("a & b").draw(&frame).unwrap();
    let bundle = figure.bundle();
    let html = bundle.html.unwrap();
    assert!(html.starts_with("<div style=\"display:none\"><img src=\"data:image/png;base64,"), "{}", &html[..80]);
    let text = html.split_once("</div>\n").unwrap().1;
    assert!(text.starts_with("<div><b>a &amp; b</b></div>"), "{text}");
    // The lightest and the darkest colour, each with the ink that is read on it, on pages of any ground; a token without a value has the page's.
    assert!(text.contains("<span style=\"background-color:#FFFFD9;color:#000000;border:1px solid #BBB;display:inline-block;white-space:pre;margin:0 1px\" title=\"·&lt;b&gt;: loss 0\">·&lt;b&gt;</span>"), "{text}");
    assert!(
        text.contains("background-color:#081D58;color:#FFFFFF;")
            && text.contains("<span style=\"display:inline-block;white-space:pre;margin:0 1px\" title=\"A: loss no value\">A</span>"),
        "{text}"
    );
    assert!(text.contains("\\n</span><br><span"), "the text goes on in the next line: {text}");
    assert!(
        text.contains("title=\"‥ &lt;0xE4&gt;&lt;0xBB&gt;: loss 1\">‥</span>")
            && text.contains("title=\"今 &lt;0x8A&gt;: loss 3\">今</span>"),
        "{text}"
    );
    // Where styles are taken away, the values of the colours are still numbers.
    let bare: String = text.split('<').filter_map(|part| part.split_once('>')).map(|(_, words)| words).collect();
    assert!(bare.contains("loss 0 1 2 3 4 "), "{bare}");
    assert!(styles(&html).iter().all(|style| KEPT.contains(style)), "{:?}", styles(&html));
    assert!(figure.alt().contains("Text of 6 tokens coloured by loss. 0 to 4, mean 2. Greatest: x, 4. It reads: A·<b>\\nx‥今 (1 token without a value has no colour)"), "{}", figure.alt());
    assert!(bundle.png.is_some() && figure.svg().contains("<title>x: loss 4</title>"));
}

#[test]
fn texts_stand_below_each_other_in_order_and_are_bounded() {
    let frame = df!("token" => ["a", "b", "c", "d"], "p" => [0.1, 0.2, 0.3, 0.4], "index" => [1u32, 0, 1, 0]).unwrap();
    let (scene, alt) = token_text("token", "p").facet("index").scene(&frame).unwrap();
    assert!(alt.contains("index 0: 0.2 to 0.4, mean 0.3; index 1: 0.1 to 0.3, mean 0.2.") && alt.contains("It reads: bdac"), "{alt}");
    let at = |token: &str| titled(&scene, &format!("{token}: p"))[0].from;
    assert!(at("b").1 == at("d").1 && at("b").0 < at("d").0 && at("a").1 > at("b").1 + 30.0);
    let (scene, alt) = token_text("token", "p").only("index", 1).range(0.0, 0.2).scene(&frame).unwrap();
    assert!(scene.areas.len() == 2 && alt.ends_with("(index 1; 1 value outside the colours' range (0.3))"), "{alt}");
    let (picture, frame) = extreme("real_text_3000_tokens");
    let figure = picture.draw(&frame).unwrap();
    let html = figure.bundle().html.unwrap();
    let spans = html.matches("white-space:pre").count();
    assert!(
        figure.alt().contains(&format!("the first {spans} of 3000 tokens")) && (1000..=2000).contains(&spans),
        "{spans}: {}",
        figure.alt()
    );
    assert!(html.len() - figure.png().len() * 4 / 3 < 400_000, "{}", html.len());
    assert!(scene_says_leftward("letters_text") && !scene_says_leftward("real_text_three"));
    let refused = |text: TokenText, frame: &DataFrame| text.draw(frame).unwrap_err().to_string();
    assert!(
        refused(token_text("token", "p"), &df!("token" => ["a"], "p" => [f64::NAN]).unwrap())
            .contains("none of the 1 rows has a number in `p`")
    );
    assert!(refused(token_text("token", "token"), &df!("token" => ["a"]).unwrap()).contains("numbers are needed"));
}

fn scene_says_leftward(name: &str) -> bool {
    scene(name).1.contains("tokens stand from left to right")
}

#[test]
fn a_lens_table_scrolls_below_its_heads_and_says_the_five_likeliest() {
    let (picture, frame) = extreme("real_lens_30_by_40");
    let figure = picture.draw(&frame).unwrap();
    let html = figure.bundle().html.unwrap();
    let table = html.split_once("</div>\n").unwrap().1;
    assert!(styles(table).iter().all(|style| KEPT.contains(style) || DROPPED.contains(style)), "{:?}", styles(table));
    assert_eq!((table.matches("<td style=").count(), table.matches("position:sticky").count()), (30 * 40, 1 + 40 + 30));
    assert!(table.contains("overflow:auto;max-height:min(480px,90vh)"), "{}", &table[..900]);
    // As in the picture, the last layer stands at the top.
    let rows: Vec<&str> = table.split("<tr>").skip(2).collect();
    assert!(rows[0].contains(">29</th>") && rows[29].contains(">0</th>"), "{}", rows[0]);
    let first = rows[0].split("title=\"").nth(1).unwrap().split('"').next().unwrap();
    let lines: Vec<&str> = first.split("&#10;").collect();
    assert!(lines.len() == 6 && lines[0] == "layer 29, input token Text" && lines[1..].iter().all(|line| line.contains(' ')), "{first}");
    assert!(table.len() < 400_000 && !table.contains("the last"), "{}", table.len());
    // What is too much for a notebook is said shorter, and then cut at the beginning, and the note says so.
    let (picture, frame) = extreme("real_tokens_36_by_60");
    let html = picture.draw(&frame).unwrap().bundle().html.unwrap();
    assert_eq!(html.matches("<td style=").count(), 36 * 60);
    let words = [" the", " film"];
    let rows: Vec<(usize, usize)> = (0..64 * 200).map(|at| (at / 200, at % 200)).collect();
    let long = df!("layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(), "position" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(), "token" => rows.iter().map(|row| words[row.1 % 2]).collect::<Vec<_>>(), "top" => rows.iter().map(|row| words[(row.0 + row.1) % 2]).collect::<Vec<_>>(), "probability" => vec![0.5; rows.len()]).unwrap();
    let (scene, alt) = token_table().scene(&long).unwrap();
    assert!(alt.contains("page 1 of 4: panels 1 to 3 of 10"), "a picture has pages, the table none: {alt}");
    let html = scene.html.unwrap();
    assert!(
        html.len() <= 340_000 && html.contains("the last 25 of 200 along input token") && html.matches("<td style=").count() == 64 * 25,
        "{}",
        html.len()
    );
}

#[test]
fn thumbnails_are_one_for_each_head_and_say_where_it_looks() {
    // Head 0 looks at itself, head 1 at the first token.
    let rows: Vec<(u32, u32, u32, u32)> =
        (0..2 * 2 * 9).map(|at| (at / 18, at / 9 % 2, at / 3 % 3, at % 3)).filter(|row| row.3 <= row.2).collect();
    let weight = |row: &(u32, u32, u32, u32)| f64::from(u8::from(if row.1 == 0 { row.2 == row.3 } else { row.3 == 0 }));
    let frame = df!("layer" => rows.iter().map(|row| row.0).collect::<Vec<_>>(), "head" => rows.iter().map(|row| row.1).collect::<Vec<_>>(), "query" => rows.iter().map(|row| row.2).collect::<Vec<_>>(), "key" => rows.iter().map(|row| row.3 as i32).collect::<Vec<_>>(), "weight" => rows.iter().map(weight).collect::<Vec<_>>()).unwrap();
    let (scene, alt) = attention_heads().scene(&frame).unwrap();
    let titles: Vec<&str> = scene.areas.iter().map(|area| area.title.as_str()).collect();
    assert_eq!(titles.len(), 4);
    assert_eq!(titles[2], "layer 1, head 0\non the token itself 1, on the one before 0, on the first 0.33");
    assert_eq!(titles[3], "layer 1, head 1\non the token itself 0.33, on the one before 0.33, on the first 1");
    assert!(
        alt.contains("Attention of 2 layers of 2 heads")
            && alt.contains("Most on the first token: layer 0, head 1 (1); layer 1, head 1 (1)"),
        "{alt}"
    );
    // Cells are where their queries and keys are, and what is later than the query is left out.
    let dark = Colour::hex(0x081D58);
    let cells = scene
        .shapes
        .iter()
        .filter(|shape| matches!(shape, Shape::Rectangle { colour, from, to } if *colour == dark && to.1 - from.1 > 20.0))
        .count();
    assert_eq!(cells, 4 * 3, "each head has three queries with one dark key");
    // Where layers are more than heads, they go to the right.
    let (wide, _) = self::scene("real_heads_30_by_9");
    assert!(wide.width > 1.5 * wide.height && titled(&wide, "layer 29, head 0")[0].from.1 == titled(&wide, "layer 0, head 0")[0].from.1);
    let (page, alt) = self::scene("real_heads_36_by_32_page_2");
    assert!(
        alt.contains("page 2 of 2: panels 641 to 1152") && titled(&page, "layer 19,").is_empty() && titled(&page, "layer 20,").len() == 32,
        "{alt}"
    );
    assert!(
        attention_heads().width(300).draw(&extreme("real_heads_30_by_9").1).unwrap_err().to_string().contains("30 thumbnails do not fit")
    );
}

#[test]
fn a_difference_has_both_maps_on_one_scale_and_its_own() {
    let frame = df!("x" => [0i64, 1, 0, 1, 0], "y" => [0i64, 0, 0, 0, 5], "v" => [1.0, 3.0, 2.0, 1.5, 9.0], "method" => ["SFT only", "SFT only", "IA2", "IA2", "other"]).unwrap();
    let map = || HeatMap::new("x", "y", "v").difference("method", "SFT", "IA2");
    let (scene, alt) = map().scene(&frame).unwrap();
    assert!(alt.contains("SFT: 1 to 3, mean 2; IA2: 1.5 to 2, mean 1.75; IA2 − SFT: −1.5 to 1, mean −0.25."), "{alt}");
    assert!(says(&scene, "IA2 − SFT") && says(&scene, "v") && says(&scene, "difference in v"));
    let colours = |scene: &Scene| {
        scene
            .shapes
            .iter()
            .filter_map(|shape| if let Shape::Rectangle { colour, .. } = shape { Some(*colour) } else { None })
            .collect::<Vec<_>>()
    };
    // Diverging colours reach as far on both sides: −1.5 is the darkest blue.
    assert!(colours(&scene).contains(&Colour::hex(0x053061)) && colours(&scene).contains(&Colour::hex(0x081D58)));
    let refused = |map: HeatMap| map.draw(&frame).unwrap_err().to_string();
    assert!(
        refused(HeatMap::new("x", "y", "v").difference("method", "SFT", "ICL"))
            .contains("column `method` has no `ICL` for the difference; it has `SFT`, `IA2`, `other`")
    );
    assert!(
        refused(HeatMap::new("x", "y", "v").difference("method", "SFT", "SFT only")).contains("not `SFT` twice"),
        "{}",
        refused(HeatMap::new("x", "y", "v").difference("method", "SFT", "SFT only"))
    );
    assert!(refused(HeatMap::new("x", "y", "v").difference("method", "SFT", "other")).contains("no place of `x` and `y` in common"));
    assert!(refused(map().rows("x")).contains("no rows of panels"));
    // Numbers name panels, too.
    let frame = df!("x" => [0i64, 0], "y" => [0i64, 0], "v" => [1.0, 3.0], "run" => [0u32, 10]).unwrap();
    assert!(HeatMap::new("x", "y", "v").difference("run", "0", "10").scene(&frame).unwrap().1.contains("(run 10) − (run 0): 2"));
}

#[test]
fn maps_stand_in_rows_and_columns_with_their_names() {
    let (scene, alt) = scene("real_maps_rows_and_columns");
    assert!(alt.contains("one row of panels per model, one panel per task. Llama-3.2-1B, SST2: "), "{alt}");
    for name in ["Llama-3.2-1B", "Qwen3-4B-Base", "SmolLM2-135M", "SST2", "SciQr"] {
        assert_eq!(scene.shapes.iter().filter(|shape| matches!(shape, Shape::Text(label) if label.text == name)).count(), 1, "{name}");
    }
    // 40 rows of 2 panels are on two pages, each with what stands above.
    let rows: Vec<(u32, u32)> = (0..80).map(|at| (at / 2, at % 2)).collect();
    let frame = df!("layer" => rows.iter().map(|row| row.0).collect::<Vec<_>>(), "head" => rows.iter().map(|row| row.1).collect::<Vec<_>>(), "x" => vec![0i64; 80], "y" => vec![0i64; 80], "v" => (0..80).map(f64::from).collect::<Vec<_>>()).unwrap();
    let (second, alt) = HeatMap::new("x", "y", "v").rows("layer").facet("head").page(2).scene(&frame).unwrap();
    assert!(
        alt.contains("page 2 of 2: panels 65 to 80 of 80")
            && says(&second, "head 1")
            && says(&second, "layer 32")
            && !says(&second, "layer 31"),
        "{alt}"
    );
}
