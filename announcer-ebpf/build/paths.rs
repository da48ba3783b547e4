//! Names that stand for the build machine's folders in what is built, so that the same sources make the same bytes in
//! any folder. The kernel object's build script and `cargo xtask image` share them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// rustc's flags that give each folder its name. rustc goes by the last one that matches: the general ones come first.
pub fn remapped(workspace: &Path, target_dir: &Path, rust_source: Option<&Path>) -> Vec<String> {
    let mut folders = vec![(target_dir.to_owned(), "/announcer/target".to_owned())];
    folders.push((workspace.to_owned(), "/announcer".to_owned()));
    if target_dir.starts_with(workspace) {
        folders.swap(0, 1);
    }
    if let Some(home) = cargo_home() {
        let sources = home.join("registry/src");
        // Each registry has a folder of its own, named by a hash.
        let registries = fs::read_dir(&sources).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut registries: Vec<PathBuf> = registries.collect();
        registries.sort();
        folders.push((home, "/cargo".to_owned()));
        folders.extend(registries.into_iter().map(|registry| (registry, "/cargo/registry".to_owned())));
    }
    folders.extend(rust_source.map(|source| (source.to_owned(), "/rust/library".to_owned())));
    folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect()
}

/// Where cargo keeps what it has fetched.
fn cargo_home() -> Option<PathBuf> {
    let given = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    given.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}
