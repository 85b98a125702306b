//! Where things lie in the folder of a grid.

use std::path::{Path, PathBuf};

/// Next to the files of the runs.
const CLUSTER: &str = "cluster";

/// The folder of a grid that has a plan.
#[derive(Clone, Debug)]
pub(super) struct GridFolder(PathBuf);

impl GridFolder {
    pub(super) fn new(home: &Path) -> Self {
        Self(home.join(CLUSTER))
    }

    pub(super) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    pub(super) fn tasks(&self) -> PathBuf {
        self.0.join("tasks")
    }

    pub(super) fn claims(&self) -> PathBuf {
        self.0.join("claims")
    }

    pub(super) fn workers(&self) -> PathBuf {
        self.0.join("workers")
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(super) fn script(&self) -> PathBuf {
        self.0.join("job.sh")
    }

    /// What starts a worker.
    pub(super) fn starter(&self) -> PathBuf {
        self.0.join("ia2-worker")
    }

    /// The program and the libraries that it was built with, copied here so that a later build does not change them under running jobs.
    pub(super) fn program(&self) -> PathBuf {
        self.0.join("program")
    }
}

/// Whether workers may be at work on the grid of this folder.
pub(in crate::experiment) fn is_planned(home: &Path) -> bool {
    GridFolder::new(home).plan().exists()
}
