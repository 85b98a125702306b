//! Files that are something else than their names say.

/// How the pointers of Git LFS begin: what a clone holds in place of a large file that was not fetched.
const POINTERS: [&[u8]; 2] = [b"version https://git-lfs", b"version https://hawser"];

/// How Python's pickles begin: torch's archives, and plain ones.
const PICKLES: [&[u8]; 4] = [b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04"];

/// What a file that cannot be read as `wanted` (`the weights`) is instead, and what to do; `None` where it looks like nothing that is known.
pub(crate) fn misidentified(bytes: &[u8], wanted: &str) -> Option<String> {
    // A safetensors file, damaged perhaps: its header's length, which can look like anything, then the header.
    if bytes.get(8) == Some(&b'{') {
        return None;
    }
    if POINTERS.iter().any(|pointer| bytes.starts_with(pointer)) {
        Some(format!("is a pointer of Git LFS instead of the {wanted}: run `git lfs pull` in its repository, or download the file itself"))
    } else if PICKLES.iter().any(|pickle| bytes.starts_with(pickle)) {
        Some(format!("is a Python pickle under another name instead of the {wanted}: write it again in Python with `save_pretrained`"))
    } else if bytes.trim_ascii_start().starts_with(b"<") {
        Some(format!("is a web page instead of the {wanted}: download it again"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_how_it_begins() {
        let of = |bytes: &[u8]| misidentified(bytes, "weights").unwrap_or_default();
        // As `git lfs pointer` writes it.
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(of(pointer).contains("git lfs pull"), "{}", of(pointer));
        assert!(of(b"\n <!DOCTYPE html>").contains("a web page instead of the weights"));
        assert!(of(b"PK\x03\x04adapter_model/data.pkl").contains("a Python pickle"));
        assert!(of(b"\x80\x02}q\x00.").contains("a Python pickle"));
        for plain in
            [&b"{\"a\": 1}"[..], b"", b"version 2", b"\x10\0\0\0\0\0\0\0{}", b"\x80\x02\0\0\0\0\0\0{\"a\"", b"<\0\0\0\0\0\0\0{\"a\""]
        {
            assert_eq!(misidentified(plain, "weights"), None);
        }
    }
}
