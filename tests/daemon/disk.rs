//! A disk that is full, and one that fails: nothing is acknowledged that is not there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Daemon, PATIENCE, eventually, text};

/// A small file system in memory, unmounted at the end.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> SmallDisk {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output()
            .expect("mount runs");
        assert!(mounted.status.success(), "these tests mount a tmpfs and need root: {}", text(&mounted.stderr));
        SmallDisk { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves no space to speak of.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let status = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k"])
            .arg(format!("of={}", path.display()))
            .stderr(Stdio::null())
            .status();
        assert!(!status.expect("dd runs").success(), "it fills the disk to the brim");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_recovers_by_itself() {
    let disk = SmallDisk::mount("192m");
    let mut b = Daemon::living_at(Some(disk.path()), "b", &[], "", "");
    b.start();
    let first = b.publish("disk.well", "1");
    let filler = disk.fill();
    let refused = eventually("the daemon says that it is full", PATIENCE, || {
        let output = b.afferent(&["publish", "disk.full", "--data", "2", "--json"]);
        (!output.status.success()).then_some(output)
    });
    let answer: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!((&answer["stored"], answer["code"].as_str()), (&serde_json::Value::Bool(false), Some("unavailable")));
    let status = b.json(&["status"]);
    assert_eq!(status["ready"], false);
    assert!(status["warnings"][0].as_str().is_some_and(|warning| warning.contains("nothing is stored")), "{status}");

    std::fs::remove_file(filler).expect("a file");
    let again = eventually("it takes events again", PATIENCE, || {
        let output = b.afferent(&["publish", "disk.again", "--data", "3", "--json"]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        answer["stored"].as_bool()?.then(|| answer["digest"].as_str().expect("a digest").to_owned())
    });
    b.kill();
    b.start();
    let digests = b.digests(usize::try_from(b.journal_events()).expect("few"));
    assert!(digests.contains(&first) && digests.contains(&again), "what was acknowledged is there after a kill");
}

/// `strace` making every fdatasync of a process fail.
fn break_the_disk(pid: u32) -> Child {
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            "inject=fdatasync,fsync:error=EIO",
            "-p",
        ])
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace is missing: run tests/run");
    let traced = format!("/proc/{pid}/status");
    eventually("strace is attached", PATIENCE, || {
        assert!(strace.try_wait().expect("a child").is_none(), "strace cannot attach");
        let status = std::fs::read_to_string(&traced).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    // The main thread is attached first, the writer's a moment later.
    let tasks = format!("/proc/{pid}/task");
    eventually("every thread is attached", PATIENCE, || {
        let traced = |task: std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("status")).is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
        };
        std::fs::read_dir(&tasks).ok()?.filter_map(Result::ok).all(traced).then_some(())
    });
    strace
}

#[test]
fn a_failed_fsync_is_never_acknowledged_and_ends_the_process_with_7() {
    let mut b = Daemon::running("b", &[], "", "");
    let first = b.publish("disk.well", "1");
    let mut strace = break_the_disk(b.pid());
    let output = b.afferent(&["publish", "disk.broken", "--data", "2"]);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert_eq!(b.ended(), Some(7), "{}", b.log());
    let _ = strace.wait();
    b.start();
    assert_eq!(b.digests(1), std::slice::from_ref(&first));
    let after = b.publish("disk.again", "3");
    let all = b.digests(usize::try_from(b.journal_events()).expect("few"));
    assert!(all.contains(&first) && all.contains(&after));
}
