//! A cheap digest of a model's files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Files up to this size are read whole.
const WHOLE: u64 = 16 << 20;
const BLOCKS: u64 = 64;
const BLOCK: u64 = 64 << 10;

/// Digests of `config.json` and of the weight files in a model's folder; none for a model that was not opened from files, or whose files
/// are no longer there. A GGUF file is both: its digest stands twice.
pub(crate) fn digests(folder: &Path) -> Result<(Option<String>, Option<String>)> {
    let config = folder.join("config.json");
    if folder.is_file() {
        let mut digest = Sha256::new();
        sample(folder, &mut digest).map_err(|error| unreadable(folder, error))?;
        let digest = format!("{:x}", digest.finalize());
        return Ok((Some(digest.clone()), Some(digest)));
    }
    if folder.as_os_str().is_empty() || !config.exists() {
        return Ok((None, None));
    }
    let config = std::fs::read(&config).map_err(|error| unreadable(&config, error))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            files.push(path);
        }
    }
    files.sort();
    let mut digest = Sha256::new();
    for path in files {
        digest.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        sample(&path, &mut digest).map_err(|error| unreadable(&path, error))?;
    }
    Ok((Some(format!("{:x}", Sha256::digest(config))), Some(format!("{:x}", digest.finalize()))))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::file(format!("cannot read {}, which the run's manifest has to name", path.display())).because(error)
}

fn sample(path: &Path, digest: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    digest.update(size.to_le_bytes());
    if size <= WHOLE {
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes)?;
        digest.update(bytes);
        return Ok(());
    }
    let mut block = vec![0; BLOCK as usize];
    for place in 0..BLOCKS {
        file.seek(SeekFrom::Start((size - BLOCK) * place / (BLOCKS - 1)))?;
        file.read_exact(&mut block)?;
        digest.update(&block);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_a_small_file_and_of_either_end_of_a_large_one_shows() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("model.safetensors");
        let of = || digests(folder.path()).unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        std::fs::write(&weights, [1; 1000]).unwrap();
        let before = of();
        std::fs::write(folder.path().join("other.safetensors"), [1]).unwrap();
        assert_eq!(of(), before);
        std::fs::write(&weights, [[1; 500], [2; 500]].concat()).unwrap();
        assert!(of().1 != before.1 && of().0 == before.0);
        std::fs::write(folder.path().join("config.json"), "{ }").unwrap();
        assert_ne!(of().0, before.0);

        let large = File::create(&weights).unwrap();
        large.set_len(WHOLE + 12_345).unwrap();
        let zeros = of();
        for place in [0, WHOLE + 12_344] {
            use std::io::Write;
            let mut file = File::options().write(true).open(&weights).unwrap();
            file.seek(SeekFrom::Start(place)).unwrap();
            file.write_all(&[1]).unwrap();
            assert_ne!(of().1, zeros.1, "at {place}");
            file.seek(SeekFrom::Start(place)).unwrap();
            file.write_all(&[0]).unwrap();
            assert_eq!(of(), zeros);
        }
        let file = digests(&weights).unwrap();
        assert!(file.0.is_some() && file.0 == file.1);
        assert_eq!(digests(&folder.path().join("nowhere")).unwrap(), (None, None));
        assert_eq!(digests(Path::new("")).unwrap(), (None, None));
        std::fs::create_dir(folder.path().join("model-2.safetensors")).unwrap();
        assert!(digests(folder.path()).unwrap_err().to_string().contains("model-2"));
    }
}
