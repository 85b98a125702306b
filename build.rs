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
        _ if std::env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() => {}
        // torch-sys looks in a few places of its own; it says what is missing if it finds nothing.
        _ => println!("cargo::warning=there is no libtorch in $LIBTORCH; `cargo xtask setup` provides it"),
    }

    // tch's generic functions are compiled where they are used, in a notebook cell for instance, and call the C layer that torch-sys links
    // statically into libia2.so. rustc keeps C symbols private there, so they are listed. (lld, Rust's linker on Linux, and mold accept a
    // list next to rustc's own; GNU's bfd does not. Patterns only: a plain name that is not there, as in a test, would be an error.)
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

/// Compiles what extends libtorch's own operations, unless the same was compiled before: this script runs at every change of a source. A
/// compiler for another processor than Intel's kind makes the plain loops alone.
fn operations(include: &Path) {
    const FILES: [&str; 6] = ["operations.cpp", "kernels.cpp", "kernels.h", "allocator.cpp", "threads.cpp", "attends.h"];
    const NAME: &str = "ia2_operations";
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    const AVX512: [&str; 5] = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"];
    let with_bf16 = [&AVX512[..], &["-mavx512bf16"]].concat();
    let sets: &[(&str, &[&str])] = &[("plain", &[]), ("avx2", &["-mavx2", "-mfma"]), ("avx512", &AVX512), ("avx512_bf16", &with_bf16)];
    let sets = &sets[..if x86 { 4 } else { 1 }];
    let kernels_of = |set: &str| format!("ia2_kernels_{set}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let files = FILES.map(|file| format!("src/libtorch/{file}"));
    let texts = files.iter().map(String::as_str).chain(["build.rs"]).map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let now = format!("{}\n{x86}\n{}", include.display(), texts.collect::<String>());
    let before = out.join("operations.of");
    let libraries: Vec<String> = std::iter::once(NAME.to_owned()).chain(sets.iter().map(|(set, _)| kernels_of(set))).collect();
    let there = libraries.iter().all(|name| out.join(format!("lib{name}.a")).exists());
    if there && std::fs::read_to_string(&before).is_ok_and(|before| before == now) {
        // As cc says it.
        libraries.iter().for_each(|name| println!("cargo::rustc-link-lib=static={name}"));
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=stdc++");
        return;
    }
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
    of_libtorch.file(&files[0]).file(&files[3]).file(&files[4]).compile(NAME);
    for (set, flags) in sets {
        let mut kernels = build();
        kernels.opt_level(3).define("IA2_SET", *set).file(&files[1]);
        // No code asks for the floating-point exceptions that these let pass; psabi: vectors are passed between functions of one file alone.
        for flag in ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"].iter().chain(*flags) {
            kernels.flag(flag);
        }
        kernels.compile(&kernels_of(set));
    }
    // Without it, they are compiled again.
    let _ = std::fs::write(before, now);
}
