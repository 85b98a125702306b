//! Fonts for the letters that the library's own lacks (Chinese, Japanese, Korean, Arabic, Hebrew, Indian scripts, emoji), for machines whose system
//! has none: Google's Noto, from a package registry, into `.ia2/fonts`, where figures find them.

use std::path::PathBuf;

use crate::failure::Result;
use crate::model::Wheel;
use crate::project::Project;

/// Each in its wheel, with its bytes and checksum. SIL Open Font License 1.1.
const FILES: &[(&str, u64, &str)] = &[
    ("manimgx_fonts/NotoEmoji[wght].ttf", 1_982_596, "de6c18832938afc99caf132b39d6a30a19bac7f2e812e28db2535b4608d27551"),
    ("manimgx_fonts/NotoSansArabic[wght].ttf", 239_324, "3fae4d7239d1faa55b234bda8091019a5251ff79df40d5e29367d84bed2a8138"),
    ("manimgx_fonts/NotoSansArmenian[wght].ttf", 32_800, "e979dfaed56ddb4bfd05121958b25425eb7593253d64b6b3654c77c11c5cda94"),
    ("manimgx_fonts/NotoSansBengali[wght].ttf", 168_884, "dc9defe97bb041876b6609e9029d9e1e228a686259acde2fe2a9f99d793ee17d"),
    ("manimgx_fonts_cjk/NotoSansCJK-VF.otf.ttc", 32_682_580, "d3d8256cdec8dbcb3552284bc6b20c734dd60c2ee9df83b5758e34807c4bac32"),
    ("manimgx_fonts/NotoSansDevanagari[wght].ttf", 275_904, "bf99bf762743ff3259e73196852520ab0ffe8d384238bff3e4806a84b981e972"),
    ("manimgx_fonts/NotoSansEthiopic[wght].ttf", 514_676, "93f223089e300b983dbfd693c7be619e0e76565a70d639e71a4fe0bfd72cf66f"),
    ("manimgx_fonts/NotoSansGeorgian[wght].ttf", 56_768, "42f4a8bf4fe0af8afd91ee3c19e81e14f1bc74ddbd9b6a59a4182f67a596adb4"),
    ("manimgx_fonts/NotoSansGujarati[wght].ttf", 200_416, "83d1bde74d64fb389f97a5e27b2699d8ee8bad4c15a02be347228e6c10011248"),
    ("manimgx_fonts/NotoSansGurmukhi[wght].ttf", 47_780, "8a3096ee2166f6383501e2df7b368fce88cfa4068c8d75bcb6af07da353a00ea"),
    ("manimgx_fonts/NotoSansHebrew[wght].ttf", 25_296, "9d81d81ad592644487b03843da73a87b99cd28a2c4da4a096e1db8fbd14fda61"),
    ("manimgx_fonts/NotoSansKannada[wght].ttf", 183_432, "b6b11505d76eddf916667d73adfec19095ec777742444dc662dae81471461f4e"),
    ("manimgx_fonts/NotoSansKhmer[wght].ttf", 119_460, "56f89948a84cc0b01962ed6af573ac4ac885bd7bb6e7e40f9afc72a435728b70"),
    ("manimgx_fonts/NotoSansLao[wght].ttf", 33_976, "fc138d605aa998d8407789ee6a7f5554aae8b54f5cd98d66dd2c33e79d15b67e"),
    ("manimgx_fonts/NotoSansMalayalam[wght].ttf", 131_216, "94cddc94a03fa9a5e8d1784090ba97b267def6933d60762081eaa003751142c5"),
    ("manimgx_fonts/NotoSansMyanmar[wght].ttf", 232_548, "e0b280aa3080aab922800c88fa9a2015a4bec3103bb8b70491a92e4a04f3a3a3"),
    ("manimgx_fonts/NotoSansOriya[wght].ttf", 228_748, "37f482d0179d0a50e3128d004f007ff1c1741ad5f6b0b2bcc7238b257ef1caa0"),
    ("manimgx_fonts/NotoSansSinhala[wght].ttf", 168_048, "3fd7c6a61cb6dfb8a2ca7af5b4078bd24e9c8ad9b55839a0177277db6e4d1326"),
    ("manimgx_fonts/NotoSansTamil[wght].ttf", 78_424, "37e151cdec4a8cfb15c432f7bb164a83b98df69419d47e50b35aa7073963716b"),
    ("manimgx_fonts/NotoSansTelugu[wght].ttf", 233_352, "6c06de88b2d420d899543724a13765994191cd29860c6226efca098b51fec64b"),
    ("manimgx_fonts/NotoSansThai[wght].ttf", 31_912, "13f52f79b04f01f2751a81052a5dee2df639fd4e13f4ac30821ab45c8dd5f7e7"),
];

const PACKAGES: [&str; 2] = ["manimgx-fonts==2026.9.26.post1", "manimgx-fonts-cjk==2026.9.26.post1"];

/// Fetches what is missing. Quick when all is there.
pub fn run(project: &Project) -> Result {
    for package in PACKAGES {
        let folder = package.split("==").next().unwrap_or(package).replace('-', "_");
        let files: Vec<(&str, &str, PathBuf)> = FILES
            .iter()
            .filter(|(file, bytes, _)| file.starts_with(&format!("{folder}/")) && !is_there(&place(project, file), *bytes))
            .map(|(file, _, sha256)| (*file, *sha256, place(project, file)))
            .collect();
        if files.is_empty() {
            println!("fonts of {folder}: they are there ({})", project.made("fonts").display());
            continue;
        }
        println!("fonts of {folder}: up to 20 MB to download (SIL Open Font License 1.1)");
        Wheel { label: &folder, package, files: &files }.fetch(project)?;
    }
    println!("fonts: figures find them in {}", project.made("fonts").display());
    Ok(())
}

fn place(project: &Project, file: &str) -> PathBuf {
    project.made(format!("fonts/{}", file.rsplit('/').next().unwrap_or(file)))
}

/// The content was checked before the file got its name.
fn is_there(place: &std::path::Path, bytes: u64) -> bool {
    place.metadata().is_ok_and(|found| found.is_file() && found.len() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for (file, bytes, sha256) in FILES {
            assert!(*bytes > 10_000 && sha256.len() == 64 && sha256.bytes().all(|digit| digit.is_ascii_hexdigit()), "{file}");
            let folder = file.split('/').next().unwrap().replace('_', "-");
            assert!(PACKAGES.iter().any(|package| package.starts_with(&format!("{folder}=="))), "{file}");
        }
    }
}
