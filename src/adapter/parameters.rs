//! Trained parameters in one stretch of memory.

use tch::{Device, Tensor};

use super::peft;
use crate::error::{Error, Result};

/// Named parameters that are views of one flat tensor: an optimiser's step, a checkpoint and a copy are each one operation.
#[derive(Debug)]
pub(crate) struct Parameters {
    flat: Tensor,
    entries: Vec<(String, Tensor)>,
}

impl Parameters {
    /// Copies the given tensors, in their order, onto `device`.
    pub(crate) fn new(tensors: Vec<(String, Tensor)>, device: Device) -> Result<Self> {
        if tensors.is_empty() {
            return Err(Error::input("the adapter has no parameters: its sites select nothing"));
        }
        let flat = Tensor::cat(&tensors.iter().map(|(_, tensor)| tensor.detach().to_device(device).reshape([-1])).collect::<Vec<_>>(), 0);
        Ok(Self::over(flat, tensors.into_iter().map(|(name, tensor)| (name, tensor.size())).collect()))
    }

    fn over(flat: Tensor, layout: Vec<(String, Vec<i64>)>) -> Self {
        let mut start = 0;
        let mut entries = Vec::with_capacity(layout.len());
        for (name, size) in layout {
            let count = size.iter().product();
            // A leaf of its own for autograd, in the flat tensor's memory.
            entries.push((name, flat.narrow(0, start, count).view(size.as_slice()).detach().set_requires_grad(true)));
            start += count;
        }
        Self { flat, entries }
    }

    /// All parameters, `[parameter]`; writing into it changes the entries.
    pub(crate) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Each parameter by its name; leaves that require gradients.
    pub(crate) fn entries(&self) -> &[(String, Tensor)] {
        &self.entries
    }

    /// A parameter by name, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<Tensor> {
        self.entries.iter().find(|(entry, _)| entry == name).map(|(_, tensor)| tensor.shallow_clone())
    }

    /// A parameter by name.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| Error::internal(format!("no parameter `{name}`")))
    }

    /// The modules that parameters belong to, in their order.
    pub(crate) fn sites(&self) -> Vec<&str> {
        let mut sites: Vec<&str> = self.entries.iter().filter_map(|(name, _)| peft::site_of(name)).collect();
        sites.dedup();
        sites
    }

    pub(crate) fn duplicate(&self) -> Result<Self> {
        let layout = self.entries.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        Ok(Self::over(self.flat.copy(), layout))
    }

    /// Overwrites all parameters.
    pub(crate) fn set(&self, flat: &Tensor) -> Result<()> {
        if flat.size() != self.flat.size() {
            return Err(Error::input(format!("{} parameters given, the adapter has {}", flat.numel(), self.flat.numel())));
        }
        self.flat.shallow_clone().copy_(flat);
        Ok(())
    }

    /// The gradient of `loss` in the flat layout; zero for what the loss does not depend on, as IA2 on attention not on the last layer's MLP.
    ///
    /// # Errors
    /// The loss depends on none of the parameters: libtorch would end the process.
    pub(crate) fn gradient(&self, loss: &Tensor) -> Result<Tensor> {
        if !loss.requires_grad() {
            return Err(Error::input(
                "the loss depends on none of the adapter's parameters, so there is nothing to train: the adapter has no virtual tokens, sits \
                 only behind the layers that the loss reads, or the objective detaches its loss",
            ));
        }
        let leaves: Vec<&Tensor> = self.entries.iter().map(|(_, leaf)| leaf).collect();
        let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
        let flat = |(gradient, leaf): (&Tensor, &&Tensor)| match gradient.defined() {
            true => gradient.reshape([-1]),
            false => leaf.zeros_like().reshape([-1]),
        };
        Ok(Tensor::cat(&gradients.iter().zip(&leaves).map(flat).collect::<Vec<_>>(), 0))
    }
}
