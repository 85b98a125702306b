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

/// Compiles what extends libtorch's own operations. A compiler for another processor than Intel's kind makes the plain loops alone.
fn operations(include: &Path) {
    const FILES: [&str; 5] = ["operations.cpp", "kernels.cpp", "kernels.h", "allocator.cpp", "threads.cpp"];
    for file in FILES {
        println!("cargo::rerun-if-changed=src/libtorch/{file}");
    }
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let build = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").debug(false);
        if x86 {
            build.define("IA2_X86", None);
        }
        build
    };
    // Whatever the profile: this is the hot path.
    let mut of_libtorch = build();
    of_libtorch.opt_level(2).flag("-isystem").flag(include.display().to_string());
    of_libtorch
        .file("src/libtorch/operations.cpp")
        .file("src/libtorch/allocator.cpp")
        .file("src/libtorch/threads.cpp")
        .compile("ia2_operations");
    let sets: &[(&str, &[&str])] =
        &[("plain", &[]), ("avx2", &["-mavx2", "-mfma"]), ("avx512", &["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"])];
    for (set, flags) in &sets[..if x86 { 3 } else { 1 }] {
        let mut kernels = build();
        kernels.opt_level(3).define("IA2_SET", *set).file("src/libtorch/kernels.cpp");
        // No code asks for the floating-point exceptions that these let pass; psabi: vectors are passed between functions of one file alone.
        for flag in ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"].iter().chain(*flags) {
            kernels.flag(flag);
        }
        kernels.compile(&format!("ia2_kernels_{set}"));
    }
}
