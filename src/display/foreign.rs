//! Values of Rust's own and of other crates: numbers and text, and several values as one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Bundle, Show, complain, more};

/// The most elements of a list that are shown.
const MOST: usize = 40;

impl Show for crate::error::Error {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("error: {self}"))
    }

    /// To standard error, as a `?` does: an error that looked like a result would be overlooked.
    fn evcxr_display(&self) {
        complain(self);
    }
}

/// Any error type, so that what polars returns shows without a `?`.
impl<T: Show, E: fmt::Display> Show for Result<T, E> {
    fn bundle(&self) -> Bundle {
        match self {
            Ok(value) => value.bundle(),
            Err(error) => Bundle::text(format!("error: {error}")),
        }
    }

    fn evcxr_display(&self) {
        match self {
            Ok(value) => value.evcxr_display(),
            Err(error) => complain(error),
        }
    }
}

impl<T: Show> Show for Option<T> {
    fn bundle(&self) -> Bundle {
        self.as_ref().map_or_else(|| Bundle::text("none"), Show::bundle)
    }
}

/// Nothing: so that the `Result` of what saves a file shows its error, and nothing else.
impl Show for () {
    fn bundle(&self) -> Bundle {
        Bundle::default()
    }

    fn evcxr_display(&self) {}
}

macro_rules! show_pointed {
    ($($pointer:ty),+) => {
        $(impl<T: Show + ?Sized> Show for $pointer {
            fn bundle(&self) -> Bundle {
                (**self).bundle()
            }

            fn evcxr_display(&self) {
                (**self).evcxr_display();
            }
        })+
    };
}
show_pointed!(&T, Box<T>, Rc<T>, Arc<T>);

impl<T: Show> Show for [T] {
    fn bundle(&self) -> Bundle {
        let parts = Bundle::within(self.iter().take(MOST).map(Show::bundle));
        if !parts.iter().all(Bundle::is_line) {
            return Bundle::gather(parts, self.len());
        }
        // Numbers and words read well on one line, sentences below each other.
        let short = parts.iter().all(|part| part.plain.chars().count() <= 12);
        let more = more(self.len(), parts.len(), "value");
        let texts: Vec<String> = parts.into_iter().map(|part| part.plain).chain(more).collect();
        Bundle::text(if short { format!("[{}]", texts.join(", ")) } else { texts.join("\n") })
    }
}

impl<T: Show> Show for Vec<T> {
    fn bundle(&self) -> Bundle {
        self.as_slice().bundle()
    }
}

impl<T: Show, const N: usize> Show for [T; N] {
    fn bundle(&self) -> Bundle {
        self.as_slice().bundle()
    }
}

macro_rules! show_tuple {
    ($($name:ident)+) => {
        impl<$($name: Show),+> Show for ($($name,)+) {
            #[allow(non_snake_case)]
            fn bundle(&self) -> Bundle {
                let ($($name,)+) = self;
                let parts = vec![$($name.bundle()),+];
                if !parts.iter().all(Bundle::is_line) {
                    return Bundle::stack(parts);
                }
                let texts: Vec<&str> = parts.iter().map(|part| part.plain.as_str()).collect();
                Bundle::text(format!("({})", texts.join(", ")))
            }
        }
    };
}
show_tuple!(A B);
show_tuple!(A B C);
show_tuple!(A B C D);

macro_rules! show_as {
    ($format:literal: $($kind:ty)+) => {
        $(impl Show for $kind {
            fn bundle(&self) -> Bundle {
                Bundle::text(format!($format, self))
            }
        })+
    };
}
show_as!("{}": bool char str String i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);
show_as!("{:?}": Duration tch::Kind tch::Device);

impl Show for Path {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.display().to_string())
    }
}

impl Show for PathBuf {
    fn bundle(&self) -> Bundle {
        self.as_path().bundle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use polars::prelude::*;

    #[test]
    fn several_values_are_one() {
        let frame = df!("a" => [1i64]).unwrap();
        let both = ("text <b>".to_owned(), frame.clone()).bundle();
        assert!(both.plain.starts_with("text <b>\n\n") && both.png.is_none());
        assert!(both.html.unwrap().contains("<pre>text &lt;b&gt;</pre>"));
        assert_eq!(("layer", 3, Some(0.5)).bundle(), Bundle::text("(layer, 3, 0.5)"));
        assert_eq!(vec![1.5, 2.0].bundle(), Bundle::text("[1.5, 2]"));
        assert_eq!([1.5, 2.0].bundle(), Bundle::text("[1.5, 2]"));
        assert_eq!(Vec::<f64>::new().bundle(), Bundle::text("[]"));
        assert_eq!(vec!["a sentence", "another sentence"].bundle(), Bundle::text("a sentence\nanother sentence"));
        assert_eq!(vec![("layer", 3), ("layer", 4)].bundle(), Bundle::text("[(layer, 3), (layer, 4)]"));
        assert!((0..50).collect::<Vec<i64>>().bundle().plain.ends_with("39, … 10 more values]"));
        assert_eq!(vec![frame.clone(), frame.clone()].bundle().html.unwrap().matches("<table>").count(), 2);
    }

    #[test]
    fn what_holds_a_value_shows_it() {
        let frame = df!("a" => [1i64]).unwrap();
        assert!(frame.select(["b"]).bundle().plain.starts_with("error: "));
        assert_eq!(Some(true).bundle().plain, "true");
        assert_eq!(None::<bool>.bundle().plain, "none");
        assert_eq!(Ok::<_, Error>(frame.clone()).bundle(), frame.bundle());
        assert_eq!(Err::<bool, _>(Error::input("no such file")).bundle().plain, "error: no such file");
        assert_eq!(Box::new(7).bundle(), Bundle::text("7"));
        assert_eq!(Ok::<_, Error>(()).bundle(), Bundle::default());
        assert_eq!(Path::new("a/b").to_path_buf().bundle(), Bundle::text("a/b"));
    }
}
