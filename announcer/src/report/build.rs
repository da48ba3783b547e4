//! What this program was built from, and with.

use std::{fmt, sync::LazyLock};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Where a build comes from. Its names are an interface: fields come, none goes or changes its meaning.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The release.
    pub version: &'static str,
    /// Full hash of the commit; `None`: built without git (from an archive, say), or for development.
    pub commit: Option<&'static str>,
    /// What the program is made from differs from that commit; `None` where there is none.
    pub dirty: Option<bool>,
    /// Release, commit and date of the compiler.
    pub rustc: &'static str,
    /// Name and release of the kernel object's linker.
    pub linker: &'static str,
    /// The target triple.
    pub target: &'static str,
    /// SHA-256 of the kernel object, an ELF file, as `cargo xtask build-ebpf` leaves it.
    pub object_sha256: String,
}

static BUILD: LazyLock<Build> = LazyLock::new(|| {
    let (commit, dirty) = commit(env!("ANNOUNCER_COMMIT"));
    Build {
        version: env!("CARGO_PKG_VERSION"),
        commit,
        dirty,
        rustc: env!("ANNOUNCER_RUSTC"),
        linker: announcer_ebpf::LINKER,
        target: env!("ANNOUNCER_TARGET"),
        object_sha256: Sha256::digest(announcer_ebpf::OBJECT)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
});

/// As the build script tells it: a hash, `-dirty` after it, or nothing.
fn commit(told: &'static str) -> (Option<&'static str>, Option<bool>) {
    match told.strip_suffix("-dirty") {
        _ if told.is_empty() => (None, None),
        Some(commit) => (Some(commit), Some(true)),
        None => (Some(told), Some(false)),
    }
}

impl Build {
    /// This program's.
    pub fn this() -> &'static Self {
        &BUILD
    }

    /// The commit as people read it: `unknown`, or with a word if it is not what was built.
    pub fn commit_text(&self) -> String {
        let commit = self.commit.unwrap_or("unknown");
        let dirty = if self.dirty == Some(true) { "-dirty" } else { "" };
        format!("{commit}{dirty}")
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, commit: _, dirty: _, rustc, linker, target, object_sha256 } = self;
        let commit = self.commit_text();
        writeln!(f, "announcer {version}")?;
        for (name, value) in [
            ("commit", commit.as_str()),
            ("rustc", *rustc),
            ("linker", *linker),
            ("target", *target),
            ("object", &format!("sha256:{object_sha256}")),
        ] {
            writeln!(f, "{name:7} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_names_everything_that_it_was_made_with() {
        let build = Build::this();
        assert!(build.rustc.starts_with("1."), "{build:?}");
        assert!(build.linker.starts_with("bpf-linker 0."), "{build:?}");
        assert!(build.target.contains("-linux-"), "{build:?}");
        assert_eq!(build.object_sha256.len(), 64);
        let text = build.to_string();
        let words: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(words, ["announcer", "commit", "rustc", "linker", "target", "object"]);
    }

    #[test]
    fn a_commit_is_told_with_what_differs_from_it_and_none_is_unknown() {
        let text = |told| {
            let (commit, dirty) = commit(told);
            Build { commit, dirty, ..Build::this().clone() }.commit_text()
        };
        assert_eq!([text(""), text("f00"), text("f00-dirty")], ["unknown", "f00", "f00-dirty"]);
        let json =
            serde_json::to_value(Build { commit: Some("f00"), dirty: Some(true), ..Build::this().clone() });
        let json = json.expect("JSON");
        assert_eq!((&json["commit"], &json["dirty"]), (&"f00".into(), &true.into()));
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(7), "{json}");
    }
}
