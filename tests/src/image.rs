//! Container images without a container engine: one program in an OCI archive, the same bytes each time.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{parts::hex, tar};

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The full name, such as `localhost/web:lab`.
    pub name: &'a str,
    /// Files of the only layer: path inside the image, mode, content.
    pub files: &'a [(&'a str, u32, Vec<u8>)],
    /// The command line; its first word is the program's path inside the image.
    pub entrypoint: &'a [&'a str],
    /// Labels, such as `org.opencontainers.image.source`.
    pub labels: &'a [(&'a str, &'a str)],
}

/// Writes the image of one static program, which lies at `/NAME` in it.
pub fn write_program(name: &str, program: &Path, archive: &Path) -> Result<()> {
    let content = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let file = program.file_name().and_then(|name| name.to_str()).context("the program has no name")?;
    let image =
        Image { name, files: &[(file, 0o755, content)], entrypoint: &[&format!("/{file}")], labels: &[] };
    write(&image, archive)
}

/// Writes an image as an OCI archive, which `ctr images import`, podman, skopeo and docker can read.
pub fn write(image: &Image<'_>, archive: &Path) -> Result<()> {
    let mut layer = tar::Writer::default();
    for (path, mode, content) in image.files {
        layer.add(path, *mode, content)?;
    }
    let layer = layer.finish();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels: serde_json::Map<String, Value> =
        image.labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": image.entrypoint, "WorkingDir": "/", "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    // What `docker load` looks for.
    let docker = serde_json::to_vec(&json!([{
        "Config": blob_path(&config), "RepoTags": [image.name], "Layers": [blob_path(&layer)],
    }]))?;

    let mut tar = tar::Writer::default();
    tar.add("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.add("index.json", 0o644, &index)?;
    tar.add("manifest.json", 0o644, &docker)?;
    for blob in [&manifest, &config, &layer] {
        tar.add(&blob_path(blob), 0o644, blob)?;
    }
    fs::write(archive, tar.finish()).with_context(|| format!("write {}", archive.display()))
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

fn blob_path(content: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(&Sha256::digest(content)))
}
