//! A grid on a cluster: its plan in a folder on a disk that all nodes share, and the workers that take its cells.
//!
//! Below the experiment's folder, next to the files of the runs, which are those of a local grid:
//!
//! | in `cluster/` | |
//! |---|---|
//! | `plan.json` | models by path and digest, tasks, settings, every cell, and which code is to do it |
//! | `tasks/` | the rows of each task, one file each, called by its digest |
//! | `job.sh`, `ia2-worker`, `program/` | the script for `sbatch`, what it starts, and the program behind that with its libraries |
//! | `claims/` | who has which cell: `CELL.1`, `CELL.2` where a dead worker's was taken over, and so on; `CELL.1.free` was given back; `CELL.done.MARK` |
//! | `workers/` | one `.json` for each worker, whose time of change is its heartbeat, and the runs that it has done, as `.csv` |
//! | `checkpoints/` | trainings that were stopped half way |
//! | `logs/` | what workers print, under SLURM |

mod claim;
mod folder;
mod job;
mod life;
mod open;
mod progress;
mod secret;
mod slurm;
mod work;
mod worker_file;
mod written;

pub use job::{Job, Submitted};
pub use slurm::Slurm;
pub use work::{Worker, WorkerOutcome};
pub(super) use written::{CODE, Rows};

pub(super) use folder::is_planned;
pub(super) use life::host;
pub(super) use progress::Progress;
pub(super) use work::run_all;
