//! Writes where libtorch lies into what is linked here, so that tests, examples and the notebook's library find it without LD_LIBRARY_PATH.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    match std::env::var("LIBTORCH") {
        Ok(libtorch) if Path::new(&libtorch).join("lib").is_dir() => {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        }
        // torch-sys looks in a few places of its own; it says what is missing if it finds nothing.
        _ => println!("cargo::warning=there is no libtorch in $LIBTORCH; `cargo xtask setup` provides it"),
    }
}
