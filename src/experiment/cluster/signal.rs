//! Placeholder until the merge.

pub(super) fn is_set() -> bool {
    false
}
