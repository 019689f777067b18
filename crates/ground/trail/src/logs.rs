//! The logs of a data directory, for who reads them as logs.

use std::path::Path;

use ledger::LedgerReader;

use crate::{TrailError, layout::Layout};

/// The node's ledger in `data_dir`, under the vkey that lies beside it.
///
/// # Errors
/// [`TrailError::File`] if there is none yet; [`TrailError::VerifierKey`].
pub fn ledger_reader(data_dir: &Path) -> Result<LedgerReader, TrailError> {
    let layout = Layout::new(data_dir);
    Ok(LedgerReader::new(&layout.ledger(), layout.read_vkey()?))
}

/// The trail log that the node in `data_dir` keeps, under the vkey that lies beside it.
///
/// # Errors
/// [`TrailError::File`] if it keeps none; [`TrailError::VerifierKey`].
pub fn trail_log_reader(data_dir: &Path) -> Result<LedgerReader, TrailError> {
    let layout = Layout::new(data_dir);
    Ok(LedgerReader::new(&layout.trail_log(), layout.read_trail_log_vkey()?))
}
