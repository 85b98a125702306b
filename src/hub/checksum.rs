//! The checksums that content is named by in the hub and its cache.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The two checksums that the hub names content by.
pub(super) enum Hash {
    Sha256(Sha256),
    /// Git's name of a blob: SHA-1 of a header with the size, and the content.
    Git(Sha1),
}

impl Hash {
    /// The hash that a checksum is of, as its length tells.
    pub(super) fn new(checksum: &str, size: u64) -> Self {
        match checksum.len() {
            64 => Self::Sha256(Sha256::new()),
            _ => Self::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    pub(super) fn hexadecimal(self) -> String {
        match self {
            Self::Sha256(hash) => format!("{:x}", hash.finalize()),
            Self::Git(hash) => format!("{:x}", hash.finalize()),
        }
    }
}

/// True if a name can be a checksum of the hub's.
pub(super) fn is_checksum(name: &str) -> bool {
    is_hex(name, 64) || is_hex(name, 40)
}

pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum_and_git() {
        let hash = |checksum: &str| {
            let mut hash = Hash::new(checksum, 6);
            hash.update(b"hel");
            hash.update(b"lo\n");
            hash.hexadecimal()
        };
        // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
        assert_eq!(hash(&"0".repeat(64)), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(hash(&"0".repeat(40)), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
