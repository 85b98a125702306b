//! Drawing: shapes in a scene, set out in panels with axes, and turned into SVG and PNG.
//!
//! It knows numbers, names and colours, and nothing of frames, metrics or methods: [`figure`](crate::figure) does.

pub(crate) mod along;
pub(crate) mod axis;
pub(crate) mod colour_bar;
pub(crate) mod fonts;
pub(crate) mod layout;
pub(crate) mod legend;
pub(crate) mod palette;
pub(crate) mod ramp;
pub(crate) mod reference;
pub(crate) mod render;
pub(crate) mod scale;
pub(crate) mod scene;
pub(crate) mod settings;
pub(crate) mod text;
