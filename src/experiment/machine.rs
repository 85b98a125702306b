//! The machine that does a run, in words: what a paper is asked to say of it.

use std::path::{Path, PathBuf};

use tch::Device;

use crate::file::{self, Holds};
use crate::libtorch;

/// `AMD EPYC 9R45, 1 of 2 processors, 15 GiB of memory`; where the model is on a GPU, that first.
pub(super) fn words(device: Device) -> String {
    let processor = line(Path::new("/proc/cpuinfo"), "model name").unwrap_or_else(|| "a processor without a name".into());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kilobytes = line(Path::new("/proc/meminfo"), "MemTotal");
    let kilobytes = kilobytes.and_then(|text| text.trim_end_matches("kB").trim().parse::<f64>().ok());
    let memory = kilobytes.map_or(String::new(), |kilobytes| format!(", {:.0} GiB of memory", kilobytes / f64::from(1 << 20)));
    let host = format!("{processor}, {} of {processors} processors{memory}", libtorch::threads());
    match device {
        Device::Cuda(number) => format!("{} (CUDA device {number}), {host}", gpu(number).unwrap_or_else(|| "a GPU without a name".into())),
        _ => host,
    }
}

/// As the driver calls it.
fn gpu(number: usize) -> Option<String> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    line(&folders.get(number)?.join("information"), "Model")
}

/// What a file of lines `name : value` has for a name, of several the first.
fn line(path: &Path, name: &str) -> Option<String> {
    let text = file::text(path, Holds::Settings).ok()?;
    let value = |line: &str| line.split_once(':').filter(|(own, _)| own.trim() == name).map(|(_, value)| value.trim().to_string());
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_processor_threads_and_memory() {
        let said = words(Device::Cpu);
        assert!(said.contains(" processors, ") && said.ends_with(" GiB of memory") && !said.contains("CUDA"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("information");
        std::fs::write(&file, "Model: \t\t NVIDIA H200\nmodel name\t: A: B\nmodel name : C\n").unwrap();
        assert_eq!((line(&file, "Model").as_deref(), line(&file, "model name").as_deref()), (Some("NVIDIA H200"), Some("A: B")));
        assert_eq!(line(&file, "name"), None);
    }
}
