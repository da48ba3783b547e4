//! What the agent is made of, as a CycloneDX bill of materials: the crates that are compiled into it for its target, as cargo
//! resolves them, the kernel object and its crates, and the tools that made them. The same sources give the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use announcer_tests::parts;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::image::workspace;

/// One crate, as `cargo tree` prints it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Crate {
    name: String,
    version: String,
    /// An SPDX expression; crates of old write `/` for OR.
    licence: String,
    repository: String,
}

/// Crates, each with those that it needs.
type Tree = BTreeMap<Crate, BTreeSet<Crate>>;

/// The bill's path, beside the image's.
pub fn beside(archive: &Path) -> PathBuf {
    archive.with_extension("cdx.json")
}

/// Writes the bill of a program that was built for `target`.
pub fn write(program: &Path, target: &str, file: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let said = Command::new(program).args(["version", "--output", "json"]).output();
    let said = said.with_context(|| format!("run {}", program.display()))?;
    let build: Value = serde_json::from_slice(&said.stdout)
        .with_context(|| format!("{} does not tell its version", program.display()))?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("read Cargo.lock")?;
    let agent = tree(&["--package", "announcer", "--target", target])?;
    let kernel = tree(&["--package", "announcer-ebpf", "--target", "bpfel-unknown-none"])?;
    let bill = bill(&build, &parts::hex(&Sha256::digest(&bytes)), &agent, &kernel, &checksums(&lock))?;
    fs::write(file, serde_json::to_string_pretty(&bill)? + "\n")
        .with_context(|| format!("write {}", file.display()))
}

/// What is compiled into a package: no build scripts, no macros that run on the build machine.
fn tree(of: &[&str]) -> Result<Tree> {
    let printed = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "depth",
            "--format",
            "\t{p}\t{l}\t{r}\t",
        ])
        .args(of)
        .output()
        .context("run cargo tree")?;
    ensure!(printed.status.success(), "cargo tree: {}", String::from_utf8_lossy(&printed.stderr).trim());
    parse(&String::from_utf8(printed.stdout)?)
}

/// Lines of depth, package, licence and repository. What was printed before comes again without what it needs.
fn parse(printed: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut above: Vec<Crate> = Vec::new();
    for line in printed.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [depth, package, licence, repository, _] = fields[..] else {
            anyhow::bail!("cargo tree says: {line}")
        };
        let depth: usize = depth.parse().with_context(|| format!("cargo tree says: {line}"))?;
        let mut words = package.split_whitespace();
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let this = Crate {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
            licence: licence.replace('/', " OR "),
            repository: repository.to_owned(),
        };
        above.truncate(depth);
        if let Some(by) = above.last() {
            tree.entry(by.clone()).or_default().insert(this.clone());
        }
        tree.entry(this.clone()).or_default();
        above.push(this);
    }
    Ok(tree)
}

/// SHA-256 of each crate's archive, by name and version, as Cargo.lock has it.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let package = |text: &str| {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
                .map(|value| value.trim_matches('"'))
        };
        Some(((field("name")?.to_owned(), field("version")?.to_owned()), field("checksum")?.to_owned()))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

fn bill(
    build: &Value,
    program: &str,
    agent: &Tree,
    kernel: &Tree,
    checksums: &BTreeMap<(String, String), String>,
) -> Result<Value> {
    let said =
        |name: &str| build[name].as_str().with_context(|| format!("the program does not tell its {name}"));
    let (linker, linker_version) = said("linker")?.split_once(' ').context("the linker has no version")?;
    let rustc = said("rustc")?.split_whitespace().next().unwrap_or_default();
    let root =
        |name: &str| agent.keys().find(|of| of.name == name).with_context(|| format!("no crate {name}"));
    let (program_ref, object_ref) = (reference(root("announcer")?), "announcer-kernel".to_owned());

    let mut all: BTreeSet<&Crate> = agent.keys().collect();
    all.extend(kernel.keys());
    let crates = all.into_iter().filter(|of| of.name != "announcer").map(|of| component(of, checksums));
    let object = json!({
        "type": "file", "bom-ref": object_ref, "name": "announcer-kernel", "version": said("version")?,
        "description": "The eBPF programs, an ELF file within the program",
        "hashes": [sha256(said("objectSha256")?)],
        "licenses": [{"expression": root("announcer-ebpf")?.licence}],
    });
    let std = json!({
        "type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rustc,
        "description": format!("Rust's standard library for {}, with its C library", said("target")?),
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    });

    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (of, needed) in agent.iter().chain(kernel) {
        needs.entry(reference(of)).or_default().extend(needed.iter().map(reference));
    }
    needs.entry(program_ref.clone()).or_default().extend([object_ref.clone(), "rust-std".to_owned()]);
    needs.insert("rust-std".to_owned(), BTreeSet::new());
    let by_kernel = kernel.keys().find(|of| of.name == "announcer-ebpf").map(reference);
    needs.insert(object_ref, by_kernel.into_iter().collect());
    let dependencies: Vec<Value> =
        needs.into_iter().map(|(of, needed)| json!({"ref": of, "dependsOn": needed})).collect();

    let mut program_itself = component(root("announcer")?, checksums);
    program_itself["type"] = "application".into();
    program_itself["hashes"] = json!([sha256(program)]);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": program_itself,
            "tools": {"components": [
                {"type": "application", "name": "rustc", "version": said("rustc")?},
                {"type": "application", "name": linker, "version": linker_version},
            ]},
            "properties": [
                {"name": "announcer:commit", "value": commit(build)},
                {"name": "announcer:target", "value": said("target")?},
            ],
        },
        "components": crates.chain([object, std]).collect::<Vec<_>>(),
        "dependencies": dependencies,
    }))
}

fn commit(build: &Value) -> String {
    let dirty = if build["dirty"] == true { "-dirty" } else { "" };
    format!("{}{dirty}", build["commit"].as_str().unwrap_or("unknown"))
}

fn component(of: &Crate, checksums: &BTreeMap<(String, String), String>) -> Value {
    let Crate { name, version, licence, repository } = of;
    let mut component = json!({
        "type": "library", "bom-ref": reference(of), "name": name, "version": version,
        "licenses": [{"expression": licence}],
    });
    // Ours are in no registry.
    if let Some(hash) = checksums.get(&(name.clone(), version.clone())) {
        component["purl"] = reference(of).into();
        component["hashes"] = json!([sha256(hash)]);
    }
    if !repository.is_empty() {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

fn sha256(content: &str) -> Value {
    json!({"alg": "SHA-256", "content": content})
}

/// A package URL.
fn reference(of: &Crate) -> String {
    format!("pkg:cargo/{}@{}", of.name, of.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "\
0\tannouncer v0.1.0 (/src/announcer)\tApache-2.0\thttps://example.org/a\t
1\tannouncer-ebpf v0.1.0 (/src/announcer-ebpf)\tMIT OR GPL-2.0-only\t\t
2\taya v0.14.0\tMIT/Apache-2.0\t\t
1\taya v0.14.0\tMIT/Apache-2.0\t\t (*)
";
    const KERNEL: &str = "\
0\tannouncer-ebpf v0.1.0 (/src/announcer-ebpf)\tMIT OR GPL-2.0-only\t\t
1\taya-ebpf v0.2.1\tMIT OR Apache-2.0\t\t
";
    const LOCK: &str = "\
version = 4

[[package]]
name = \"announcer\"
version = \"0.1.0\"

[[package]]
name = \"aya\"
version = \"0.14.0\"
source = \"registry\"
checksum = \"00ff\"
";

    fn example() -> Value {
        let build = json!({
            "version": "0.1.0", "commit": "f00", "dirty": true, "rustc": "1.95.0 (59807616e 2026-04-14)",
            "linker": "bpf-linker 0.10.4", "target": "x86_64-unknown-linux-musl", "objectSha256": "0b1ec7",
        });
        let (agent, kernel) = (parse(AGENT).expect("a tree"), parse(KERNEL).expect("a tree"));
        bill(&build, "9406", &agent, &kernel, &checksums(LOCK)).expect("a bill")
    }

    #[test]
    fn each_crate_is_listed_once_with_licence_and_checksum() {
        let bill = example();
        let aya: Vec<&Value> = bill["components"]
            .as_array()
            .expect("components")
            .iter()
            .filter(|component| component["name"] == "aya")
            .collect();
        assert_eq!(
            aya,
            [&json!({
                "type": "library", "bom-ref": "pkg:cargo/aya@0.14.0", "name": "aya", "version": "0.14.0",
                "purl": "pkg:cargo/aya@0.14.0", "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "hashes": [{"alg": "SHA-256", "content": "00ff"}],
            })]
        );
    }

    #[test]
    fn program_and_kernel_object_are_told_by_their_hashes_and_what_they_need() {
        let bill = example();
        assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], "9406");
        let needs = |of: &str| {
            let all = bill["dependencies"].as_array().expect("dependencies");
            all.iter().find(|dependency| dependency["ref"] == of).expect("its own")["dependsOn"].clone()
        };
        assert_eq!(
            needs("pkg:cargo/announcer@0.1.0"),
            json!(["announcer-kernel", "pkg:cargo/announcer-ebpf@0.1.0", "pkg:cargo/aya@0.14.0", "rust-std"])
        );
        assert_eq!(needs("announcer-kernel"), json!(["pkg:cargo/announcer-ebpf@0.1.0"]));
        assert_eq!(
            needs("pkg:cargo/announcer-ebpf@0.1.0"),
            json!(["pkg:cargo/aya-ebpf@0.2.1", "pkg:cargo/aya@0.14.0"])
        );
        assert!(bill.to_string().contains(r#""value":"f00-dirty""#), "{bill}");
    }

    #[test]
    fn every_reference_is_to_something_in_the_bill() {
        let bill = example();
        let listed =
            bill["components"].as_array().expect("components").iter().chain([&bill["metadata"]["component"]]);
        let listed: BTreeSet<&str> = listed.filter_map(|component| component["bom-ref"].as_str()).collect();
        for dependency in bill["dependencies"].as_array().expect("dependencies") {
            let needed =
                dependency["dependsOn"].as_array().expect("a list").iter().chain([&dependency["ref"]]);
            for name in needed.filter_map(Value::as_str) {
                assert!(listed.contains(name), "{name} in {listed:?}");
            }
        }
    }
}
