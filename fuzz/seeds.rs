//! Writes what the fuzzer begins with: the good ones of every entry, to `corpus/<target>/`.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    for entry in &entries::ENTRIES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(entry.name);
        fs::create_dir_all(&folder)?;
        for (number, bytes) in (entry.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), bytes)?;
        }
    }
    Ok(())
}
