//! Hook points: named places in a forward where a value can be read or replaced.

use std::collections::HashMap;

use tch::Tensor;

use super::paths::Paths;
use crate::display::shortened;
use crate::error::{Error, Result};
use crate::libtorch::user_code;

/// Characters of a pattern in a message.
const SHOWN: usize = 80;

/// One firing of a hook: where it is and which examples and tokens the value holds.
#[derive(Debug)]
pub struct HookPoint<'p> {
    /// Module path in Hugging Face spelling, e.g. `model.layers.3.self_attn`.
    pub path: &'p str,
    /// Which examples of the caller's batch the value's first axis holds, in order.
    pub examples: &'p [usize],
    /// Logical position of each token, `[example, token]` (or `[1, token]` where all examples agree); 0 is the first real token.
    ///
    /// Batches are padded on the right: from an example's length on, values are padding.
    pub positions: &'p Tensor,
}

impl HookPoint<'_> {
    /// The 0-based layer that the path names, if it lies in a layer.
    pub fn layer(&self) -> Option<usize> {
        layer_of(self.path)
    }
}

/// The 0-based layer that a module path names.
pub(crate) fn layer_of(path: &str) -> Option<usize> {
    path.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

type Observe<'a> = Box<dyn FnMut(&HookPoint<'_>, &Tensor) -> Result<()> + 'a>;
type Edit<'a> = Box<dyn FnMut(&HookPoint<'_>, &Tensor) -> Result<Option<Tensor>> + 'a>;

enum Action<'a> {
    Observe(Observe<'a>),
    Edit(Edit<'a>),
}

struct Hook<'a> {
    pattern: String,
    action: Action<'a>,
    called: bool,
    fired: bool,
}

/// Observers and editors for one call. They live in the caller's scope and are handed to the call, so nothing stays registered after it.
///
/// ```
/// # use ia2::prelude::*;
/// # fn main() -> Result<()> {
/// # let model = Model::open("tiny-icl")?;
/// let mut norms = Vec::new();
/// let mut hooks = Hooks::new();
/// hooks.observe("model.layers.*.self_attn", |point, value| {
///     norms.push((point.path.to_string(), value.norm().double_value(&[])));
///     Ok(())
/// });
/// model.forward_with(&[vec![1, 2, 3]], &mut hooks)?;
/// drop(hooks);
/// assert_eq!(norms.len() as i64, model.config().layers);
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Hooks<'a> {
    hooks: Vec<Hook<'a>>,
    bound: HashMap<String, Vec<usize>>,
    outer: Option<&'a mut (dyn Fire + 'a)>,
}

/// Hooks of a longer life, already bound, that fire before those of one forward.
trait Fire {
    fn wants(&self, path: &str) -> bool;
    fn paths(&self) -> Vec<&str>;
    fn call(&mut self, point: &HookPoint<'_>, value: Tensor) -> Result<Tensor>;
}

impl<'a> Hooks<'a> {
    /// No hooks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No hooks of its own yet, on top of `outer`, which is bound already.
    pub(crate) fn on_top_of(outer: &'a mut Hooks<'_>) -> Self {
        Self { outer: Some(outer), ..Self::default() }
    }

    /// Those that have seen tokens of several examples in `pieces`, and none of its own.
    pub(crate) fn on_pieces(pieces: &'a mut Pieces<'_, '_>) -> Self {
        Self { outer: Some(pieces), ..Self::default() }
    }

    /// Reads the value at every hook point that `pattern` selects (see [`Selection`]).
    pub fn observe(&mut self, pattern: &str, read: impl FnMut(&HookPoint<'_>, &Tensor) -> Result<()> + 'a) -> &mut Self {
        self.push(pattern, Action::Observe(Box::new(read)))
    }

    /// Replaces the value at every hook point that `pattern` selects; `None` leaves it as it is.
    ///
    /// The replacement must have the value's shape and kind. A call in which an editor never replaced anything is an error:
    /// a patch that silently did nothing is the classic mistake of activation patching.
    pub fn edit(&mut self, pattern: &str, edit: impl FnMut(&HookPoint<'_>, &Tensor) -> Result<Option<Tensor>> + 'a) -> &mut Self {
        self.push(pattern, Action::Edit(Box::new(edit)))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    fn push(&mut self, pattern: &str, action: Action<'a>) -> &mut Self {
        self.hooks.push(Hook { pattern: pattern.to_string(), action, called: false, fired: false });
        self
    }

    /// Resolves the patterns against a model's hook points; selecting nothing is an error.
    pub(crate) fn bind(&mut self, points: &Paths) -> Result<()> {
        self.bound.clear();
        for (index, hook) in self.hooks.iter_mut().enumerate() {
            (hook.called, hook.fired) = (false, false);
            for path in points.select(&Selection::new(&hook.pattern)?)? {
                self.bound.entry(path).or_default().push(index);
            }
        }
        Ok(())
    }

    /// True if any hook reads or edits `path`.
    pub(crate) fn wants(&self, path: &str) -> bool {
        Fire::wants(self, path)
    }

    /// The bound paths.
    pub(crate) fn paths(&self) -> Vec<&str> {
        Fire::paths(self)
    }

    /// Lets the hooks see a value and perhaps replace it.
    pub(crate) fn call(&mut self, point: &HookPoint<'_>, value: Tensor) -> Result<Tensor> {
        Fire::call(self, point, value)
    }

    /// At the end of a call: a hook that was never reached, or an editor that never replaced a value, is an error.
    pub(crate) fn finish(&self) -> Result<()> {
        if let Some(hook) = self.hooks.iter().find(|hook| !hook.called) {
            let pattern = shortened(&hook.pattern, SHOWN);
            return Err(Error::input(format!("`{pattern}` was never reached: this call does not compute it for hooks to see")));
        }
        match self.hooks.iter().find(|hook| matches!(hook.action, Action::Edit(_)) && !hook.fired) {
            Some(hook) => Err(Error::input(format!(
                "the editor at `{}` never replaced a value: it returned None each time it was called; check its condition",
                shortened(&hook.pattern, SHOWN)
            ))),
            None => Ok(()),
        }
    }
}

impl Fire for Hooks<'_> {
    fn wants(&self, path: &str) -> bool {
        self.bound.contains_key(path) || self.outer.as_ref().is_some_and(|outer| outer.wants(path))
    }

    fn paths(&self) -> Vec<&str> {
        let outer = self.outer.iter().flat_map(|outer| outer.paths());
        self.bound.keys().map(String::as_str).chain(outer).collect()
    }

    fn call(&mut self, point: &HookPoint<'_>, mut value: Tensor) -> Result<Tensor> {
        if let Some(outer) = &mut self.outer
            && outer.wants(point.path)
        {
            value = outer.call(point, value)?;
        }
        let Some(hooks) = self.bound.get(point.path) else { return Ok(value) };
        for &index in hooks {
            let hook = &mut self.hooks[index];
            hook.called = true;
            match &mut hook.action {
                Action::Observe(read) => user_code(|| format!("the hook at `{}`", point.path), || read(point, &value))?,
                Action::Edit(edit) => {
                    let edited = user_code(|| format!("the editor at `{}`", point.path), || edit(point, &value))?;
                    let Some(replacement) = edited else { continue };
                    if replacement.size() != value.size() || replacement.kind() != value.kind() {
                        return Err(Error::input(format!(
                            "editor at `{}` returned {:?} {:?}, the value there is {:?} {:?}: return the same shape and kind",
                            point.path,
                            replacement.kind(),
                            replacement.size(),
                            value.kind(),
                            value.size()
                        )));
                    }
                    hook.fired = true;
                    value = replacement;
                }
            }
        }
        Ok(value)
    }
}

/// Observers of examples, in a forward each row of which several examples begin with: they see each row as those examples' own.
pub(crate) struct Pieces<'a, 'h> {
    /// Bound, and observers all.
    pub observers: &'a mut Hooks<'h>,
    /// Of each row the examples, none where observers need not see it, and how many of its tokens are real.
    pub rows: Vec<(Vec<usize>, i64)>,
}

impl Fire for Pieces<'_, '_> {
    fn wants(&self, path: &str) -> bool {
        Fire::wants(self.observers, path)
    }

    fn paths(&self) -> Vec<&str> {
        Fire::paths(self.observers)
    }

    fn call(&mut self, point: &HookPoint<'_>, value: Tensor) -> Result<Tensor> {
        for (row, (examples, tokens)) in self.rows.iter().enumerate().filter(|(_, (examples, _))| !examples.is_empty()) {
            let mut size = value.size();
            (size[0], size[1]) = (examples.len() as i64, *tokens);
            let own = value.narrow(0, row as i64, 1).narrow(1, 0, *tokens).expand(&size, false);
            let positions = point.positions.narrow(0, (row as i64).min(point.positions.size()[0] - 1), 1).narrow(1, 0, *tokens);
            let _ = self.observers.call(&HookPoint { path: point.path, examples, positions: &positions }, own)?;
        }
        Ok(value)
    }
}

impl std::fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.hooks.iter().map(|hook| &hook.pattern)).finish()
    }
}

/// A selection of module paths: patterns separated by commas, `*` standing for any text without a dot.
///
/// `model.layers.*.self_attn` selects one hook point per layer, `model.layers.0.mlp, lm_head` two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<String>);

impl Selection {
    /// Reads the patterns; an empty one is an error.
    pub fn new(text: &str) -> Result<Self> {
        let patterns: Vec<String> = text.split(',').map(|part| part.trim().to_string()).collect();
        if patterns.iter().any(String::is_empty) {
            return Err(Error::input(format!(
                "`{}` holds an empty pattern: write for example `model.layers.*.self_attn`",
                shortened(text, SHOWN)
            )));
        }
        Ok(Self(patterns))
    }

    /// True if a pattern matches the path.
    pub fn matches(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern.as_bytes(), path.as_bytes()))
    }

    /// The paths selected, in the order given; a pattern that selects none is an error.
    pub fn of(&self, paths: &[String]) -> Result<Vec<String>> {
        Paths::new(paths.to_vec(), |_| Vec::new()).select(self)
    }

    /// The patterns, one by one.
    pub(super) fn patterns(&self) -> &[String] {
        &self.0
    }

    /// True if one pattern matches the path.
    pub(super) fn holds(pattern: &str, path: &str) -> bool {
        matches(pattern.as_bytes(), path.as_bytes())
    }
}

/// The error for a pattern that selects none of the paths.
pub(super) fn none_of(pattern: &str, paths: &[String]) -> Error {
    let shown: Vec<&str> = paths.iter().map(String::as_str).filter(|path| layer_of(path).unwrap_or(0) == 0).collect();
    Error::input(format!(
        "`{}` selects none of the {} paths; layer 0 and the rest are: {}",
        shortened(pattern, SHOWN),
        paths.len(),
        shown.join(", ")
    ))
}

/// Part by part between the dots, which no `*` takes. Within a part, what does not match sends the last `*` one letter further: an earlier one
/// need not change, because whatever it would give up the last one can take. So the time is at most that of pattern times text, not 2 to the
/// number of stars.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut parts, mut words) = (pattern.split(|&byte| byte == b'.'), text.split(|&byte| byte == b'.'));
    loop {
        match (parts.next(), words.next()) {
            (None, None) => return true,
            (Some(part), Some(word)) if part_matches(part, word) => {}
            _ => return false,
        }
    }
}

fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Behind the last `*`, and where the text that it has not taken begins.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match (pattern.get(at), &mut star) {
            (Some(b'*'), _) => {
                at += 1;
                star = Some((at, place));
            }
            (Some(byte), _) if *byte == text[place] => (at, place) = (at + 1, place + 1),
            (_, Some((behind, taken))) => {
                *taken += 1;
                (at, place) = (*behind, *taken);
            }
            _ => return false,
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_one_part_of_the_path() -> Result<()> {
        let select = Selection::new("model.layers.*.self_attn")?;
        assert!(select.matches("model.layers.11.self_attn"));
        assert!(!select.matches("model.layers.1.self_attn.q_proj"));
        assert!(!select.matches("model.layers.1.mlp"));
        assert!(Selection::new("*.layers.1*.mlp, lm_head")?.matches("model.layers.12.mlp"));
        assert!(Selection::new("a,,b").is_err());
        Ok(())
    }

    /// The definition, which takes 2 to the number of stars.
    fn by_trying_all(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => {
                let reach = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
                (0..=reach).any(|taken| by_trying_all(rest, &text[taken..]))
            }
            Some((first, rest)) => text.first() == Some(first) && by_trying_all(rest, &text[1..]),
        }
    }

    #[test]
    fn a_match_is_what_trying_all_finds() {
        let mut random = crate::random::Random::new(7, "patterns", 0);
        let mut draw = |letters: &[u8], most: usize| -> Vec<u8> {
            let length = random.below(most + 1);
            (0..length).map(|_| letters[random.below(letters.len())]).collect()
        };
        let mut matched = 0;
        for _ in 0..20_000 {
            let (pattern, text) = (draw(b"ab.**", 7), draw(b"aab.", 7));
            let expected = by_trying_all(&pattern, &text);
            matched += u32::from(expected);
            assert_eq!(matches(&pattern, &text), expected, "{:?} {:?}", String::from_utf8(pattern), String::from_utf8(text));
        }
        assert!(matched > 1_000, "{matched}");
    }

    #[test]
    fn many_stars_take_no_time() -> Result<()> {
        let path = format!("model.layers.0.{}", "a".repeat(60));
        for stars in ["*a".repeat(30), "*".repeat(1_000_000), "*a".repeat(1_000)] {
            let select = Selection::new(&format!("model.layers.*.{stars}b"))?;
            assert!(!select.matches(&path));
            assert!(select.matches(&format!("{path}{}b", "a".repeat(1_000))));
        }
        let error = Selection::new(&"*".repeat(1_000_000))?.of(&["a.b".into()]).unwrap_err().to_string();
        assert!(error.len() < 1_000 && error.contains("***"), "{}", error.len());
        Ok(())
    }

    #[test]
    fn selecting_nothing_names_the_pattern_and_the_choices() {
        let error = Selection::new("model.layers.*.selfattn").and_then(|s| s.of(&["model.layers.0.self_attn".into()])).unwrap_err();
        assert!(error.to_string().contains("selfattn") && error.to_string().contains("model.layers.0.self_attn"), "{error}");
    }

    #[test]
    fn an_editor_must_keep_the_shape_and_must_fire() -> Result<()> {
        let points = Paths::new(vec!["a".to_string()], |_| Vec::new());
        let positions = Tensor::zeros([1, 1], (tch::Kind::Int64, tch::Device::Cpu));
        let point = HookPoint { path: "a", examples: &[0], positions: &positions };
        let value = || Tensor::ones([2, 3], (tch::Kind::Float, tch::Device::Cpu));
        let mut hooks = Hooks::new();
        hooks.edit("a", |_, value| Ok(Some(value.narrow(1, 0, 2))));
        hooks.bind(&points)?;
        assert!(hooks.call(&point, value()).unwrap_err().to_string().contains("same shape"));
        let mut hooks = Hooks::new();
        hooks.edit("a", |_, _| Ok(None));
        hooks.bind(&points)?;
        let _ = hooks.call(&point, value())?;
        assert!(hooks.finish().unwrap_err().to_string().contains("never replaced"));
        Ok(())
    }
}
