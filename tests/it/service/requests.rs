use std::path::Path;
pub(super) struct Answer { pub(super) body: String }
pub(super) fn get(_socket: &Path, _path: &str) -> Answer { unimplemented!() }
