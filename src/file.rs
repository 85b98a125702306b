//! Files: read with errors that name them, written whole or not at all.

mod mistaken;
mod read;
mod shards;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, TryLockError};
use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
pub(crate) use mistaken::mistaken;
pub(crate) use read::{Holds, bytes, open, text};
pub(crate) use shards::numbered_shards;

/// Makes a folder and those above it.
pub(crate) fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::unwritten(path, error))
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    text(path, Holds::Settings).map_err(|error| Error::file(format!("cannot read {}", path.display())).because(error))
}

/// What a file is to hold.
pub(crate) enum Content<'c> {
    /// These bytes.
    Bytes(&'c [u8]),
    /// Tensors and text metadata as a safetensors file, one tensor in memory at a time.
    Tensors(&'c [(String, Tensor)], HashMap<String, String>),
}

/// What a file is called until it is whole; hidden, and of a kind that nobody looks for.
const PREFIX: &str = ".ia2-";
const SUFFIX: &str = ".partial";

/// Writes beside the target and renames: a reader sees the old file or the new one, never half of it.
///
/// What a killed process left of its own writes into the folder is removed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_together(&[(path, Content::Bytes(bytes))])
}

/// Writes several files that belong together: none takes its name before all are on the disk.
pub(crate) fn write_together(files: &[(impl AsRef<Path>, Content<'_>)]) -> Result<()> {
    let mut written = Vec::with_capacity(files.len());
    for (path, content) in files {
        let path = path.as_ref();
        // What a rename would refuse only after an earlier one has been done.
        if path.is_dir() {
            return Err(Error::file(format!("cannot write {}: a folder has that name; choose another", path.display())));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        remove_leftovers(parent);
        let mut file = partial(parent).map_err(|error| Error::unwritten(path, error))?;
        let whole = match content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::Tensors(tensors, metadata) => {
                let views = tensors.iter().map(|(name, tensor)| Ok((name, Stored::new(name, tensor)?))).collect::<Result<Vec<_>>>()?;
                safetensors::serialize_to_file(views, Some(metadata.clone()), file.path()).map_err(|error| match error {
                    // What the system says decides what can be done.
                    SafeTensorError::IoError(error) => error,
                    other => std::io::Error::other(other),
                })
            }
        };
        let whole = whole.and_then(|()| file.as_file().sync_all());
        // Temporary files are private; these are made to be shared, as any file a program writes.
        #[cfg(unix)]
        let whole = whole.and_then(|()| file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)));
        whole.map_err(|error| Error::unwritten(path, error))?;
        written.push((path, file));
    }
    for (path, file) in written {
        file.persist(path).map_err(|error| Error::unwritten(path, error.error))?;
    }
    Ok(())
}

/// A new file that is locked as long as this process writes it: the lock ends with the process, however that ends.
fn partial(folder: &Path) -> std::io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)?;
        // Another process may have taken it for a leftover before it was locked. (Some network disks know no locks; there nothing is.)
        let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock)) || !file.path().exists();
        if !taken {
            return Ok(file);
        }
    }
}

/// Removes the files that a process died over; those that are being written are locked. What cannot be removed harms nobody.
fn remove_leftovers(folder: &Path) {
    let named = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_name().to_str().is_some_and(named)) {
        if open(&entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A tensor's bytes in their order, wherever it lies.
pub(crate) fn content(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
    let mut data = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut data, tensor.numel());
    data
}

/// Tensors and text metadata as one safetensors file.
pub(crate) fn write_safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    write_together(&[(path, Content::Tensors(tensors, metadata))])
}

/// A tensor as safetensors wants it.
struct Stored<'t> {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: &'t Tensor,
}

impl<'t> Stored<'t> {
    fn new(name: &str, tensor: &'t Tensor) -> Result<Self> {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            Kind::Int64 => Dtype::I64,
            other => return Err(Error::internal(format!("`{name}` of kind {other:?} cannot be stored"))),
        };
        Ok(Self { dtype, shape: tensor.size().iter().map(|&axis| axis as usize).collect(), tensor })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        content(self.tensor).into()
    }
    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// All tensors of a safetensors file by name.
pub(crate) fn read_safetensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    Ok(read_with_metadata(path)?.0)
}

/// All tensors by name, and the text metadata.
pub(crate) fn read_with_metadata(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let bytes = bytes(path, Holds::Tensors).map_err(|error| Error::file(format!("cannot read {}", path.display())).because(error))?;
    let malformed = |error| {
        let what = mistaken(&bytes, "numbers").unwrap_or_else(|| "is no readable safetensors file (truncated?)".into());
        Error::file(format!("{} {what}", path.display())).because(error)
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(malformed)?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(malformed)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            other => return Err(Error::file(format!("{}: `{name}` has the unsupported type {other:?}", path.display()))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!((read_text(&path).unwrap().as_str(), names(folder.path())), ("two", vec!["a.json".to_string()]));
        // An error leaves the old file, and nothing else.
        let strange = [("t".to_string(), Tensor::from_slice(&[true]))];
        write_together(&[(&path, Content::Bytes(b"three")), (&folder.path().join("b"), Content::Tensors(&strange, HashMap::new()))])
            .unwrap_err();
        assert_eq!((read_text(&path).unwrap().as_str(), names(folder.path())), ("two", vec!["a.json".to_string()]));
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_write_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = partial(folder.path()).unwrap().into_temp_path();
        // As by a kill: the file stays, its lock is gone.
        std::mem::forget(left);
        fs::write(folder.path().join(".ia2-mine"), "of somebody else").unwrap();
        let mut under_way = partial(folder.path()).unwrap();
        under_way.write_all(b"half").unwrap();
        write(&folder.path().join("a"), b"one").unwrap();
        let being_written = under_way.path().file_name().unwrap().to_str().unwrap().to_string();
        let mut expected = [".ia2-mine".to_string(), being_written, "a".to_string()];
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        under_way.persist(folder.path().join("b")).unwrap();
        assert_eq!(read_text(&folder.path().join("b")).unwrap(), "half");
    }
}
