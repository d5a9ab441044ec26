//! How much memory the control groups of this process allow, as in a container.
//!
//! Nothing here allocates: it runs when a pool is made, which must not abort if memory is short.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::OnceLock;

/// The limit in bytes, read once. `None`: there is none, or the system has no control groups.
pub(crate) fn memory_limit() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| limit_below(Path::new("")))
}

/// `root`: where the file system begins; tests have a folder for it.
fn limit_below(root: &Path) -> Option<u64> {
    let mut buffer = [0; 4096];
    // Each line is `id:controllers:path`, of version 2 `0::path`.
    let groups = read(root, format_args!("/proc/self/cgroup"), &mut buffer)?;
    groups.lines().filter_map(|line| limit_of(root, line)).min()
}

/// The lowest limit of a group and of the groups that contain it.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let (_, line) = line.split_once(':')?;
    let (controllers, group) = line.split_once(':')?;
    let (folder, file) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    // In a container the path may not exist, because it begins outside. The last ancestor, "/", does.
    let limits = Path::new(group).ancestors().filter_map(|group| {
        let group = group.to_str()?.trim_end_matches('/');
        let mut buffer = [0; 32];
        let limit = read(root, format_args!("{folder}{group}/{file}"), &mut buffer)?;
        limit.trim().parse().ok() // no limit is "max", or a number beyond all memory
    });
    limits.min()
}

/// The text of a file that is not larger than the buffer.
fn read<'a>(root: &Path, path: std::fmt::Arguments<'_>, buffer: &'a mut [u8]) -> Option<&'a str> {
    // Opening a longer path allocates.
    let mut full = [0; 380];
    let mut rest = full.as_mut_slice();
    write!(rest, "{}{path}", root.display()).ok()?;
    let unused = rest.len();
    let full = full.get(..full.len().checked_sub(unused)?)?;
    let mut file = File::open(std::str::from_utf8(full).ok()?).ok()?;
    let mut filled = 0_usize;
    loop {
        match file.read(buffer.get_mut(filled..)?).ok()? {
            0 => return std::str::from_utf8(buffer.get(..filled)?).ok(),
            count => filled = filled.checked_add(count)?,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::env::temp_dir;
    use std::fs::{create_dir_all, remove_dir_all, write};
    use std::process;

    use super::*;

    fn limit(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = temp_dir().join(format!("bytepool-{name}-{}", process::id()));
        for (path, text) in files {
            let path = root.join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, text).unwrap();
        }
        let limit = limit_below(&root);
        let _ = remove_dir_all(&root);
        limit
    }

    const V2: &str = "sys/fs/cgroup";
    const V1: &str = "sys/fs/cgroup/memory";

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limit("none", &[]), None);
        assert_eq!(limit("empty", &[("proc/self/cgroup", "0::/\n")]), None);
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_its_parents_holds() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let file = |group: &str| format!("{V2}{group}/memory.max");
        let (top, a, b) = (file(""), file("/a"), file("/a/b"));
        assert_eq!(
            limit("b", &[group, (&a, "max\n"), (&b, "4096\n")]),
            Some(4096)
        );
        assert_eq!(
            limit("a", &[group, (&a, "1000\n"), (&b, "max\n")]),
            Some(1000)
        );
        // In a container the path begins outside.
        assert_eq!(
            limit("top", &[group, (&top, "1073741824\n")]),
            Some(1 << 30)
        );
        assert_eq!(limit("max", &[group, (&top, "max\n"), (&b, "max\n")]), None);
    }

    #[test]
    fn version_1_has_a_memory_controller() {
        let groups = "12:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n";
        let group = ("proc/self/cgroup", groups);
        let file = |group: &str| format!("{V1}{group}/memory.limit_in_bytes");
        let (top, own) = (file(""), file("/docker/1"));
        let unlimited = (top.as_str(), "9223372036854771712\n");
        assert_eq!(
            limit("v1", &[group, unlimited, (&own, "5000\n")]),
            Some(5000)
        );
        assert_eq!(limit("v1-top", &[group, (&top, "6000\n")]), Some(6000));
    }

    #[test]
    fn a_path_that_is_too_long_is_skipped() {
        let groups = format!("0::/{}\n", "x".repeat(400));
        let top = format!("{V2}/memory.max");
        let files = [("proc/self/cgroup", groups.as_str()), (&top, "7000")];
        assert_eq!(limit("long", &files), Some(7000));
    }
}
