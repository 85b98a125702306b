//! What the linker has to be told, for the library, its tests and its examples.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=IA2_CODE={:016x}", code());
    println!("cargo::rerun-if-env-changed=LIBTORCH");

    // Where libtorch lies, so that nobody has to set LD_LIBRARY_PATH.
    match std::env::var("LIBTORCH") {
        Ok(libtorch) if Path::new(&libtorch).join("lib").is_dir() => {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
            operations(&Path::new(&libtorch).join("include"));
        }
        // torch-sys looks in a few places of its own; it says what is missing if it finds nothing.
        _ => println!("cargo::warning=there is no libtorch in $LIBTORCH; `cargo xtask setup` provides it"),
    }

    // tch's generic functions are compiled where they are used, in a notebook cell for instance, and call the C layer that torch-sys links
    // statically into libia2.so. rustc keeps C symbols private there, so they are listed. (lld, Rust's linker on Linux, and mold accept a
    // list beside rustc's own; GNU's bfd does not. Patterns only: a plain name that is not there, as in a test, would be an error.)
    let list = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("torch-sys.list");
    let symbols = "{ global: at_*; atc_*; atg_*; ati_*; atm_*; ato_*; ats_*; get_and_reset_last_er*; };\n";
    std::fs::write(&list, symbols).expect("OUT_DIR is writable");
    println!("cargo::rustc-link-arg=-Wl,--version-script={}", list.display());
}

/// Which sources these are: what is done by several programs, on several machines, is to be done by the same.
fn code() -> u64 {
    let mut files = vec![PathBuf::from("Cargo.toml"), PathBuf::from("Cargo.lock")];
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.lock");
    // Its keys are fixed: the same files give the same number everywhere.
    let mut digest = std::hash::DefaultHasher::new();
    for file in files {
        file.hash(&mut digest);
        std::fs::read(&file).unwrap_or_default().hash(&mut digest);
    }
    digest.finish()
}

/// Compiles what extends libtorch's own operations, unless the same was compiled before: this script runs at every change of a source.
fn operations(include: &Path) {
    const FILE: &str = "src/libtorch/operations.cpp";
    const NAME: &str = "ia2_operations";
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let now = format!(
        "{}\n{}\n{}",
        include.display(),
        std::fs::read_to_string("build.rs").unwrap_or_default(),
        std::fs::read_to_string(FILE).unwrap_or_default()
    );
    let before = out.join("operations.of");
    if std::fs::read_to_string(&before).is_ok_and(|before| before == now) && out.join(format!("lib{NAME}.a")).exists() {
        // As cc says it.
        println!("cargo::rustc-link-lib=static={NAME}");
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=stdc++");
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-isystem")
        .flag(include.display().to_string())
        // Whatever the profile: this is the hot path.
        .opt_level(2)
        .debug(false)
        .file(FILE)
        .compile(NAME);
    // Without it, it is compiled again.
    let _ = std::fs::write(before, now);
}
