//! The folder that is rendered: its files, and the kustomizations that make one of it.

use anyhow::ensure;
use serde_json::{Value, json};

use super::sizes;
use crate::policy::revision_text;
use crate::text::wrap::wrap;

/// The width of comments and READMEs.
const WIDTH: usize = 100;

/// Files, by their paths in the folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: Vec<(String, String)>,
    /// The folders of objects, and the files in each.
    objects: Vec<(String, Vec<String>)>,
    /// Of the objects, which kustomize wants to be told apart.
    ids: Vec<String>,
    revision: String,
}

impl Folder {
    /// An empty folder for the policy of this revision.
    pub(super) fn new(revision: u64) -> Self {
        Self {
            revision: revision_text(revision),
            ..Self::default()
        }
    }

    /// Adds an object that kustomize applies, in `folder`.
    ///
    /// # Errors
    /// If Kubernetes would not take it.
    pub(super) fn object(
        &mut self,
        folder: &str,
        name: &str,
        header: &str,
        object: &Value,
    ) -> anyhow::Result<()> {
        let path = format!("{folder}/{name}");
        sizes::check(&path, object)?;
        let metadata = &object["metadata"];
        let id = format!(
            "{} {} {}",
            object["kind"], metadata["namespace"], metadata["name"]
        );
        ensure!(
            !self.ids.contains(&id),
            "{path}: there is a {} {} in {} already; give the gateway another `name`",
            object["kind"],
            metadata["name"],
            metadata["namespace"]
        );
        self.ids.push(id);
        self.yaml(&path, header, object)?;
        let known = self.objects.iter_mut().find(|(known, _)| known == folder);
        match known {
            Some((_, names)) => names.push(name.to_owned()),
            None => self
                .objects
                .push((folder.to_owned(), vec![name.to_owned()])),
        }
        Ok(())
    }

    /// Adds a file in YAML, under a header of comments.
    ///
    /// # Errors
    /// If the value cannot be written.
    pub(super) fn yaml(&mut self, path: &str, header: &str, value: &Value) -> anyhow::Result<()> {
        let rendered = format!(
            "{header}\n\nRendered by `meridian render istio` from the policy of revision {}: edit the policy, \
             and render again.",
            self.revision
        );
        let comments: String = wrap(&rendered, WIDTH)
            .lines()
            .map(|line| format!("# {line}").trim_end().to_owned() + "\n")
            .collect();
        let text = format!("{comments}{}", yaml_serde::to_string(value)?);
        self.text(path, text);
        Ok(())
    }

    /// Adds a file in Markdown.
    pub(super) fn markdown(&mut self, path: &str, text: &str) {
        self.text(path, wrap(text, WIDTH));
    }

    fn text(&mut self, path: &str, text: String) {
        self.files.push((path.to_owned(), text));
    }

    /// The files, with a kustomization in each folder of objects and, of those that are not overlays,
    /// one at the top.
    ///
    /// # Errors
    /// If a kustomization cannot be written.
    pub(super) fn into_files(mut self) -> anyhow::Result<Vec<(String, String)>> {
        let folders = std::mem::take(&mut self.objects);
        for (folder, names) in &folders {
            self.yaml(
                &format!("{folder}/kustomization.yaml"),
                &format!("`kubectl apply --server-side -k` of {folder} applies what stands here."),
                &kustomization(names),
            )?;
        }
        let base = folders.iter().map(|(folder, _)| folder.clone());
        let base: Vec<String> = base
            .filter(|folder| !folder.starts_with("overlays/"))
            .collect();
        self.yaml(
            "kustomization.yaml",
            "`kubectl apply --server-side -k` of this folder applies all but the overlays; each folder by itself is \
             a step of the rollout (README.md). Without --server-side kubectl refuses objects over 256 KiB.",
            &kustomization(&base),
        )?;
        self.files.sort();
        Ok(self.files)
    }
}

fn kustomization(resources: &[String]) -> Value {
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    })
}
