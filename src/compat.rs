//! Where the authors' code differs from what is right, and which of the two is wanted.

use serde::{Deserialize, Serialize};

/// Which behaviour, at the places where the published code of the paper does something else than its text or than is right.
///
/// Each such place names this type in its documentation and says what both do. The default is what is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// What is right.
    #[default]
    Corrected,
    /// What the authors' code does, to compare with their numbers.
    Paper,
}
