//! Places that cannot be written: an error, and nothing half-written.

use super::*;

/// Places where nothing can be written: below a regular file (for everybody), and in a folder without write permission (not for root).
fn unwritable(root: &Path) -> Vec<PathBuf> {
    std::fs::write(root.join("file"), "not a folder").unwrap();
    let locked = root.join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let root_ignores_it = std::fs::write(locked.join("probe"), "").is_ok();
    let mut places = vec![root.join("file")];
    if root_ignores_it {
        std::fs::remove_file(locked.join("probe")).unwrap();
    } else {
        places.push(locked);
    }
    places
}

/// A file error that names the place, and a folder as it was.
fn cannot_write<T>(root: &Path, place: &Path, write: impl FnOnce(&Path) -> Result<T>) {
    let before = listing(root);
    let error = refused(write(place), &["cannot", place.to_str().unwrap()]);
    assert!(error.is_file(), "{error}");
    assert!(listing(root) == before, "something was left behind by: {error}");
}

#[test]
fn folders_that_cannot_be_written() -> Result<()> {
    let model = speaking(NAME);
    let adapter = Adapter::new(&model, Lora::rank(2), 0)?;
    let responses = model.respond(&task(labels()).examples().take(2).zero_shot()?)?;
    let activations = capture(&model, &responses, "model.layers.*.mlp")?;
    let figure = lines(&activations.frame()?, "layer", "norm", "kind")?;
    let split = task(labels()).few_shot(4, 0)?;
    let root = tempfile::tempdir().unwrap();
    let mut places = unwritable(root.path());
    places.push(root.path().join("file/deeper"));
    for place in &places {
        cannot_write(root.path(), place, |place| adapter.save(place));
        cannot_write(root.path(), &place.join("values.safetensors"), |file| activations.save(file));
        cannot_write(root.path(), &place.join("picture.svg"), |file| figure.save(file));
        cannot_write(root.path(), &place.join("picture.png"), |file| figure.save(file));
        cannot_write(root.path(), &place.join("run.safetensors"), |file| {
            Training::new(Lora::rank(2), Sft::gold()).epochs(1).checkpoint(file).run(&model, &split)
        });
    }
    // A folder where a file should go.
    for name in ["taken.safetensors", "taken.svg"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    cannot_write(root.path(), &root.path().join("taken.safetensors"), |file| activations.save(file));
    cannot_write(root.path(), &root.path().join("taken.svg"), |file| figure.save(file));
    refused(figure.save(root.path().join("picture.bmp")), &["picture.bmp", ".svg", ".png"]);
    Ok(())
}

/// Run by the next test in a process that may write no file of more than a kilobyte.
#[test]
#[ignore = "the child of `a_full_disk_is_called_a_full_disk`"]
fn writes_on_a_full_disk() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let root = tempfile::tempdir().unwrap();
    let adapter = Adapter::new(&model, Lora::rank(2), 0)?;
    refused(adapter.save(root.path().join("adapter")), &["cannot write", "larger than this disk, or `ulimit -f`, allows"]);
    let frame = df!("layer" => [0, 1, 2], "norm" => [1.0, 2.0, 3.0], "kind" => ["a", "a", "a"])?;
    refused(lines(&frame, "layer", "norm", "kind")?.save(root.path().join("a.svg")), &["cannot write", "larger than this disk"]);
    Ok(())
}

#[test]
fn a_full_disk_is_called_a_full_disk() {
    // The signal is ignored, so that the write fails with an error, as on a full disk.
    let command = "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact writing::writes_on_a_full_disk --ignored";
    let output = std::process::Command::new("bash").args(["-c", command]).arg(std::env::current_exe().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn an_adapter_is_written_whole_or_not_at_all() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("adapter");
    Adapter::new(&model, Lora::rank(2), 0)?.save(&folder)?;
    // The second file cannot be written: the first must not be replaced, or the folder holds two halves of different adapters.
    std::fs::remove_file(folder.join("adapter_config.json")).unwrap();
    std::fs::create_dir(folder.join("adapter_config.json")).unwrap();
    cannot_write(root.path(), &folder.join("adapter_config.json"), |_| Adapter::new(&model, Lora::rank(4), 1)?.save(&folder));
    Ok(())
}

#[test]
fn saved_files_can_be_read_by_others() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let folder = tempfile::tempdir().unwrap();
    Adapter::new(&model, Lora::rank(2), 0)?.save(folder.path())?;
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join(name)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
    Ok(())
}
