//! Reading prompts: what several of them begin with is read once, and its keys and values are forked.

#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::ops::Range;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::Model;
use super::batch::{self, Batch};
use super::changed::Row;
use super::decoder::Depth;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::nn::{self, CachedPrefix, Hooks, KvCache, Pass, Pieces};
use tree::FORWARD;
pub(super) use tree::Tree;
use walk::{Step, Waiting, Walk};

/// What bound hooks have to see of rows that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The end of each row, from the last token that is shared with none, where the last layer may compute the tokens alone that are asked for.
    End,
    /// Every token from this position on, in one call for all rows of a batch. The hooks may edit what they see.
    From(usize),
    /// Every token. They are observers, which may see a row's tokens in several pieces.
    Pieces,
}

impl Watch {
    /// How many tokens of a row may be read together with other rows', where no row's end is longer than one token.
    pub(super) fn shared(self) -> impl Fn(usize) -> usize {
        move |_| match self {
            Self::From(position) => position,
            Self::End | Self::Pieces => usize::MAX,
        }
    }
}

/// Rows that go on from what was read, the shortest rest first.
pub(crate) struct Batched {
    /// Which rows.
    pub examples: Vec<usize>,
    /// How many tokens of each have been read.
    starts: Vec<usize>,
    cached_prefixes: Vec<Option<CachedPrefix>>,
}

/// Where the rows go, a batch at a time.
pub(crate) type Each<'e, 'h> = &'e mut dyn FnMut(&Batched, Option<&mut Hooks<'h>>) -> Result<()>;

type Behind = Waiting<Option<CachedPrefix>>;

impl Model {
    /// Reads the prefixes that `rows` share, of each row at most `at_most` tokens and as far as `depth` says, and hands the rows over in batches of
    /// at most `batch`, to go on from there.
    pub(super) fn read<'h, R: Row>(
        &self,
        rows: &[R],
        at_most: impl Fn(usize) -> usize,
        batch: usize,
        (watch, depth): (Watch, Depth),
        mut hooks: Option<&mut Hooks<'h>>,
        each: Each<'_, 'h>,
    ) -> Result<()> {
        let tree = self.tree(rows, at_most);
        let mut done = 0;
        let root = self.prefix(None)?.map(CachedPrefix::whole);
        let length = |row: usize| rows[row].as_ref().len();
        let mut walk = Walk::new(&tree, batch, &root, &length);
        while let Some(step) = walk.next() {
            match step {
                Step::Read(taken) => walk.go_on(self.read_shared(rows, &tree, taken, (watch, depth), hooks.as_deref_mut())?),
                Step::Batch(batch) => {
                    interrupt::at(done, rows.len() as u64, "prompts")?;
                    done += batch.len() as u64;
                    each(&Batched::of(rows, batch), hooks.as_deref_mut())?;
                }
            }
        }
        Ok(())
    }

    fn tree<R: Row>(&self, rows: &[R], at_most: impl Fn(usize) -> usize) -> Tree {
        // What depends on a text's length has no part that texts of several lengths could share.
        let anew = rows.iter().any(|row| self.turns_anew(row.as_ref().len()));
        // Where a vector acts, rows part: it acts at the end of each row's own query.
        let alike = |row: usize| if self.is_steered() { at_most(row).min(rows[row].asked()) } else { at_most(row) };
        Tree::of(rows, |row| if anew { 0 } else { alike(row) })
    }

    /// How many tokens it takes to read these rows, what several share of their first `at_most` tokens counted as often as it is read.
    pub(crate) fn tokens_to_read<R: Row>(&self, rows: &[R], at_most: impl Fn(usize) -> usize) -> u64 {
        self.tree(rows, at_most).read(rows).iter().map(|&read| read as u64).sum()
    }

    /// Reads prefixes, each behind what was read before it, and gives what goes on from them.
    fn read_shared<R: Row>(
        &self,
        rows: &[R],
        tree: &Tree,
        mut taken: Vec<Behind>,
        (watch, depth): (Watch, Depth),
        mut hooks: Option<&mut Hooks<'_>>,
    ) -> Result<Vec<Behind>> {
        taken.sort_by_key(|waiting| tree.node(waiting.number).end - waiting.start);
        let own = |waiting: &Behind| &rows[tree.rows(waiting.number)[0]].as_ref()[waiting.start..tree.node(waiting.number).end];
        let segments: Vec<&[u32]> = taken.iter().map(own).collect();
        let cached_prefixes: Vec<Option<CachedPrefix>> = taken.iter().map(|waiting| waiting.behind.clone()).collect();
        let filled = CachedPrefix::longest(&cached_prefixes);
        let widest = segments.last().map_or(0, |segment| segment.len());
        let mut cache = self.cache(segments.len() as i64, filled + widest as i64);
        cache.go_on_from(&cached_prefixes);
        for part in cuts(&segments.iter().map(|segment| segment.len()).collect::<Vec<_>>()) {
            let batch = Batch::new(&segments[part.clone()], self.device());
            let mut own = cache.rows(part.start, part.len());
            own.advance(&batch.real());
            let starts: Vec<usize> = taken[part.clone()].iter().map(|waiting| waiting.start).collect();
            let mut pass = self.pass(self.places(&starts, batch.tokens()), &[]);
            pass.cache = Some(&mut own);
            let shown = |waiting: &Behind| if watch == Watch::Pieces { tree.rows(waiting.number).to_vec() } else { Vec::new() };
            let mut pieces = hooks.as_deref_mut().map(|observers| Pieces {
                observers,
                rows: taken[part.clone()].iter().map(shown).zip(batch.lengths.iter().map(|&length| length as i64)).collect(),
            });
            let mut seen = pieces.as_mut().map(Hooks::on_pieces);
            pass.hooks = seen.as_mut();
            // Unless somebody looks, the last layer's keys and values are all that is left to compute there; its one kept query is the least
            // a forward can do.
            pass.keep = (watch != Watch::Pieces || pass.hooks.is_none())
                .then(|| Tensor::zeros([part.len() as i64, 1], (Kind::Int64, self.device())));
            self.decoder().forward(&batch.ids, depth, &mut pass)?;
        }
        let cache = Rc::new(cache);
        let grown = |(row, waiting): (usize, Behind)| {
            let tokens = segments[row].len();
            let cached_prefix = CachedPrefix::grown(waiting.behind.as_ref(), &cache, row, filled, tokens as i64);
            Waiting { number: waiting.number, start: waiting.start + tokens, behind: Some(cached_prefix) }
        };
        Ok(taken.into_iter().enumerate().map(grown).collect())
    }

    /// Reads the rest of rows; gives logits `[example, vocab]` after their last tokens and, if `room` new tokens are to follow, the cache.
    /// Unless hooks have to see every token, the last layer computes the last one alone.
    pub(super) fn prefill<R: Row>(
        &self,
        rows: &[R],
        batched: &Batched,
        room: i64,
        watch: Watch,
        mut hooks: Option<&mut Hooks<'_>>,
    ) -> Result<(Tensor, Option<KvCache>)> {
        let filled = CachedPrefix::longest(&batched.cached_prefixes);
        let widest = batched.rests(rows).map(<[u32]>::len).max().unwrap_or(0) as i64;
        let mut cache = (room > 0).then(|| self.cache(batched.examples.len() as i64, filled + widest + room));
        if let Some(cache) = &mut cache {
            cache.go_on_from(&batched.cached_prefixes);
        }
        let mut logits = Vec::new();
        for part in batched.parts(rows) {
            let own = cache.as_ref().map(|cache| cache.rows(part.start, part.len()));
            let (rest, mut own) = self.rest(rows, batched, part, own, widest);
            let last: Vec<usize> = rest.lengths.iter().map(|length| length - 1).collect();
            let (keep, _) = batch::spans(&last, &vec![1; last.len()], self.device());
            let mut pass = self.pass_over(self.places(rest.starts, rest.batch.tokens()), rest.examples, &rest.whole());
            pass.cache = own.as_mut();
            pass.hooks = hooks.as_deref_mut();
            pass.keep = (watch == Watch::End).then(|| keep.shallow_clone());
            self.steer(&mut pass, rest.examples.iter().map(|&row| rows[row].asked()));
            let hidden = self.decoder().forward(&rest.batch.ids, Depth::Full, &mut pass)?;
            let mut hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
            if watch != Watch::End {
                hidden = Pass::gather(&hidden, &keep);
                pass.narrow(&keep);
            }
            logits.push(self.decoder().logits(&hidden, &mut pass)?.squeeze_dim(1));
        }
        if let Some(cache) = &mut cache {
            cache.filled_to(filled + widest);
        }
        Ok((if logits.len() == 1 { logits.remove(0) } else { Tensor::cat(&logits, 0) }, cache))
    }

    /// Shows the hooks `rows`, in batches of at most `batch`, as far as they look. Of each row they have to see the tokens of its span (the first
    /// one and how many) and may see others; [`Watch::End`] computes these alone in the last layer.
    ///
    /// What was begun with `Watch::From` sees whole batches.
    pub(crate) fn visit<R: Row>(
        &self,
        rows: &[R],
        batch: usize,
        span: impl Fn(usize) -> (usize, usize),
        watch: Watch,
        hooks: &mut Hooks<'_>,
    ) -> Result<()> {
        self.check(rows, 0)?;
        hooks.bind(self.points())?;
        let at_most = |row: usize| if watch == Watch::End { span(row).0 } else { watch.shared()(row) };
        self.read(rows, at_most, batch, (watch, Depth::Hooks), Some(&mut *hooks), &mut |batched, mut hooks| {
            for part in batched.parts(rows) {
                let (rest, mut own) = self.rest(rows, batched, part, None, 0);
                let mut pass = self.pass_over(self.places(rest.starts, rest.batch.tokens()), rest.examples, &rest.whole());
                pass.cache = own.as_mut();
                pass.hooks = hooks.as_deref_mut();
                self.steer(&mut pass, rest.examples.iter().map(|&row| rows[row].asked()));
                if watch == Watch::End {
                    let spans: Vec<(usize, usize)> = rest.examples.iter().map(|&row| span(row)).collect();
                    let starts: Vec<usize> = spans.iter().zip(rest.starts).map(|(span, start)| span.0 - start).collect();
                    let counts: Vec<usize> = spans.iter().map(|span| span.1).collect();
                    pass.keep = Some(batch::spans(&starts, &counts, self.device()).0);
                }
                self.decoder().forward(&rest.batch.ids, Depth::Hooks, &mut pass)?;
            }
            Ok(())
        })?;
        hooks.finish()
    }

    /// Reads the prefix of a text by itself, for texts to go on from; `None` of no tokens, and where positions depend on a text's length.
    pub(crate) fn begin(&self, tokens: &[u32]) -> Result<Option<CachedPrefix>> {
        if tokens.is_empty() || self.turns_anew(self.config().max_positions as usize) {
            return Ok(None);
        }
        let batch = Batch::new(&[tokens], self.device());
        let mut cache = self.cache(1, batch.tokens());
        cache.advance(&batch.real());
        let mut pass = self.pass(self.places(&[0], batch.tokens()), &[]);
        pass.cache = Some(&mut cache);
        pass.keep = Some(Tensor::zeros([1, 1], (Kind::Int64, self.device())));
        self.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        drop(pass);
        Ok(Some(CachedPrefix::whole(cache)))
    }

    /// The normalised hidden states `[token, hidden]` of rows at their tokens from `starts` on, one row after the other; their first tokens have
    /// been read ([`Model::begin`]), of those without a prefix none.
    pub(crate) fn go_on(&self, rows: &[Vec<u32>], starts: &[usize], cached_prefixes: Vec<Option<CachedPrefix>>) -> Result<Tensor> {
        self.check(rows, 0)?;
        let read =
            cached_prefixes.iter().zip(starts).map(|(cached_prefix, &start)| if cached_prefix.is_some() { start } else { 0 }).collect();
        let batched = Batched { examples: (0..rows.len()).collect(), starts: read, cached_prefixes };
        let (rest, mut own) = self.rest(rows, &batched, 0..rows.len(), None, 0);
        let mut pass = self.pass_over(self.places(rest.starts, rest.batch.tokens()), rest.examples, &rest.whole());
        pass.cache = own.as_mut();
        let hidden = self.decoder().forward(&rest.batch.ids, Depth::Full, &mut pass)?;
        let hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        let firsts: Vec<usize> = starts.iter().zip(rest.starts).map(|(start, read)| start - read).collect();
        let counts: Vec<usize> = rows.iter().zip(starts).map(|(row, start)| row.len() - start).collect();
        let (keep, real) = batch::spans(&firsts, &counts, self.device());
        let width = hidden.size()[2];
        Ok(Pass::gather(&hidden, &keep).reshape([-1, width]).index_select(0, &real))
    }

    /// Some rows' rest as a batch, and its cache: `own`, a part of one that is as wide as its widest rest, or one that is lent for a single
    /// forward if something was read before.
    fn rest<'b, R: AsRef<[u32]>>(
        &self,
        rows: &[R],
        batched: &'b Batched,
        part: Range<usize>,
        own: Option<KvCache>,
        widest: i64,
    ) -> (Rest<'b>, Option<KvCache>) {
        let tokens: Vec<&[u32]> = batched.rests(rows).skip(part.start).take(part.len()).collect();
        let batch = Batch::new(&tokens, self.device());
        let cached_prefixes = &batched.cached_prefixes[part.clone()];
        let lent = || cached_prefixes.iter().any(Option::is_some).then(|| KvCache::lent(cached_prefixes, batch.tokens(), self.device()));
        let mut cache = match own {
            Some(own) => {
                own.blank(batch.tokens(), widest);
                Some(own)
            }
            None => lent(),
        };
        if let Some(cache) = &mut cache {
            cache.advance(&batch.real());
        }
        (Rest { batch, starts: &batched.starts[part.clone()], examples: &batched.examples[part] }, cache)
    }

    /// Logical positions of the next `tokens` of rows of which `starts` have been read: `[1, token]` where all agree.
    pub(super) fn places(&self, starts: &[usize], tokens: i64) -> Tensor {
        match starts {
            [first, rest @ ..] if rest.iter().all(|start| start == first) => nn::positions(*first as i64, tokens, self.device()),
            _ => {
                let starts: Vec<i64> = starts.iter().map(|&start| start as i64).collect();
                Tensor::from_slice(&starts).to_device(self.device()).unsqueeze(1) + nn::positions(0, tokens, self.device())
            }
        }
    }

    fn cache(&self, examples: i64, slots: i64) -> KvCache {
        let config = self.config();
        KvCache::new(config.layers as usize, examples, config.kv_heads, slots, config.head_dim, self.kind(), self.device())
    }
}

/// Some rows' rest.
struct Rest<'b> {
    batch: Batch,
    starts: &'b [usize],
    examples: &'b [usize],
}

impl Rest<'_> {
    /// How many tokens each row has, with what was read before.
    fn whole(&self) -> Vec<usize> {
        self.starts.iter().zip(&self.batch.lengths).map(|(start, length)| start + length).collect()
    }
}

impl std::ops::Deref for Rest<'_> {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

impl Batched {
    fn of<R: AsRef<[u32]>>(rows: &[R], mut waiting: Vec<Behind>) -> Self {
        waiting.sort_by_key(|waiting| rows[waiting.number].as_ref().len() - waiting.start);
        Self {
            examples: waiting.iter().map(|waiting| waiting.number).collect(),
            starts: waiting.iter().map(|waiting| waiting.start).collect(),
            cached_prefixes: waiting.into_iter().map(|waiting| waiting.behind).collect(),
        }
    }

    /// Rows of which nothing was read, behind no virtual tokens.
    pub(super) fn unread(examples: Vec<usize>) -> Self {
        Self { starts: vec![0; examples.len()], cached_prefixes: vec![None; examples.len()], examples }
    }

    /// The tokens of each row that have not been read.
    fn rests<'r, R: AsRef<[u32]>>(&self, rows: &'r [R]) -> impl Iterator<Item = &'r [u32]> {
        self.examples.iter().zip(&self.starts).map(|(&row, &start)| &rows[row].as_ref()[start..])
    }

    /// Which of the rows go through the model together: all, where nothing was shared.
    fn parts<R: AsRef<[u32]>>(&self, rows: &[R]) -> Vec<Range<usize>> {
        match self.starts.iter().any(|&start| start > 0) {
            true => cuts(&self.rests(rows).map(<[u32]>::len).collect::<Vec<_>>()),
            false => std::iter::once(0..self.examples.len()).collect(),
        }
    }
}

/// Cuts rows of growing `lengths` into forwards, each where padding the rows before would cost more than another forward does.
fn cuts(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut first, mut padding) = (0, 0);
    for (row, &length) in lengths.iter().enumerate() {
        if row > first {
            padding += (length - lengths[row - 1]) * (row - first);
            if padding >= FORWARD {
                cuts.push(first..row);
                (first, padding) = (row, 0);
            }
        }
    }
    cuts.push(first..lengths.len());
    cuts
}
