//! Files that are not what was written: cut, flipped, of another version, or on a disk that takes nothing.

use super::*;

/// Each file, written once, with its bytes, in a directory of its own.
fn each(mut test: impl FnMut(&File, &Path, &[u8])) {
    for place in 0..3 {
        let home = tempfile::tempdir().expect("a directory");
        let dir = directory(home.path());
        let file = files(&dir).remove(place);
        (file.save)(1).expect("a disk");
        assert_eq!((file.load)(), (Some(1), None), "{}", file.name);
        let bytes = fs::read(&file.path).expect("is there");
        test(&file, home.path(), &bytes);
    }
}

/// What is there is refused, kept aside as it was, and said: what, why, and what was done. Then it can be
/// written again.
fn is_noticed(file: &File, home: &Path, bytes: &[u8], case: &str) {
    fs::write(&file.path, bytes).expect("written");
    let (version, warning) = (file.load)();
    let warning = warning.unwrap_or_else(|| panic!("{} {case}: nothing is said", file.name));
    assert_eq!(version, None, "{} {case}", file.name);
    let [moved] = &aside(home, file.name)[..] else { panic!("{} {case}: not moved aside", file.name) };
    for word in [file.path.display().to_string(), "cannot be used: ".to_owned(), moved.display().to_string()] {
        assert!(warning.contains(&word), "{} {case}: {warning}", file.name);
    }
    assert_eq!(fs::read(moved).expect("kept"), bytes, "{} {case}", file.name);
    assert_eq!((file.load)(), (None, None), "said once: now there is none");
    fs::remove_file(moved).expect("a file");
}

#[test]
fn a_cut_at_any_length_is_noticed() {
    each(|file, home, bytes| {
        for length in 0..bytes.len() {
            is_noticed(file, home, &bytes[..length], &format!("cut at {length}"));
        }
        (file.save)(2).expect("a disk");
        assert_eq!((file.load)(), (Some(2), None), "{} is whole again", file.name);
    });
}

#[test]
fn a_flipped_bit_in_any_byte_is_noticed() {
    each(|file, home, bytes| {
        for place in 0..bytes.len() {
            let mut injured = bytes.to_vec();
            injured[place] ^= 1 << (place % 8);
            is_noticed(file, home, &injured, &format!("byte {place}"));
        }
    });
}

#[test]
fn what_a_newer_program_wrote_is_kept_for_it() {
    each(|file, home, bytes| {
        let text = String::from_utf8(bytes.to_vec()).expect("text").replacen("\"format\":", "\"format\":9", 1);
        is_noticed(file, home, text.as_bytes(), "a format to come");
        is_noticed(file, home, &[b"\xff\xfe".as_slice(), bytes].concat(), "another encoding");
        is_noticed(file, home, &[bytes, bytes].concat(), "twice");
    });
}

#[test]
fn a_list_of_seeds_that_its_signer_did_not_write_so_is_not_used() {
    use crate::store::seeds::{SEEDS_PAYLOAD_TYPE, load};
    use crate::wire::{Network, Signature};
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("mine.toml");
    let (pinned, network) = (Some(key(7).id()), Network::default());
    let list = format!(
        "format = 1\nchannel = \"mine\"\nnetwork = \"main\"\n[[seed]]\naddress = \"mesh://{}@birch.example\"\n",
        key(1).id()
    );
    let signature = Signature::sign(&key(7), SEEDS_PAYLOAD_TYPE, list.as_bytes());
    let whole = format!("{list}#signature {} {signature}\n", key(7).id()).into_bytes();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        load(path.to_str().expect("a plain path"), &network, pinned)
    };
    let good = read(&whole).expect("the whole list");
    for place in 0..whole.len() {
        let mut injured = whole.clone();
        injured[place] ^= 1 << (place % 8);
        if let Err(error) = read(&injured) {
            assert!(error.to_string().contains("mine.toml"), "{error}");
        } else {
            panic!("byte {place} may be changed");
        }
        let is_without_the_last_line_feed = place == whole.len() - 1;
        let cut = read(&whole[..place]);
        assert!(cut.is_err() || (is_without_the_last_line_feed && cut.expect("read") == good), "cut at {place}");
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    each(|file, _, bytes| {
        let mut new = file.path.clone().into_os_string();
        new.push(".new");
        // Every write there is answered with ENOSPC (full(4)).
        std::os::unix::fs::symlink("/dev/full", &new).expect("a link");
        let fault = (file.save)(2).expect_err("no room").to_string();
        assert!(fault.contains(&file.path.display().to_string()), "{fault}");
        assert_eq!(fs::read(&file.path).expect("is there"), bytes);
        (file.save)(2).expect("nothing is left in the way");
        assert_eq!((file.load)(), (Some(2), None));
    });
}

#[test]
fn a_disk_that_takes_nothing_leaves_what_was_there() {
    each(|file, home, bytes| {
        // Where the new bytes would be written first stands a directory: no user can write that.
        let mut new = file.path.clone().into_os_string();
        new.push(".new");
        fs::create_dir(&new).expect("a directory");
        let fault = (file.save)(2).expect_err("no room").to_string();
        assert!(fault.contains(&file.path.display().to_string()), "{fault}");
        assert_eq!(fs::read(&file.path).expect("is there"), bytes);
        assert_eq!((file.load)(), (Some(1), None));
        fs::remove_dir(&new).expect("a directory");
        (file.save)(2).expect("room again");
        assert_eq!((file.load)(), (Some(2), None));
        // Nothing can be read, and nothing moved aside in its place: it is said all the same.
        fs::remove_file(&file.path).expect("a file");
        fs::create_dir(&file.path).expect("a directory");
        let (version, warning) = (file.load)();
        assert_eq!(version, None);
        assert!(warning.expect("a warning").contains(&file.path.display().to_string()));
        assert_eq!(aside(home, file.name).len(), 1, "even a directory is no obstacle");
        (file.save)(3).expect("room again");
        assert_eq!((file.load)(), (Some(3), None));
    });
}
