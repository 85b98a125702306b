//! Pieces of a network that know no models.

pub mod rope;
