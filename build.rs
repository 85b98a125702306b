//! What the linker has to be told, for the library, its tests and its examples.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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

/// Compiles what extends libtorch's own operations.
fn operations(include: &Path) {
    const FILE: &str = "src/libtorch/operations.cpp";
    println!("cargo::rerun-if-changed={FILE}");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-isystem")
        .flag(include.display().to_string())
        // Whatever the profile: this is the hot path.
        .opt_level(2)
        .debug(false)
        .file(FILE)
        .compile("ia2_operations");
}
