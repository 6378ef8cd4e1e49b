//! What there is of a job's checkpoints in an object store.
//!
//! The model: one listing of all objects, and the manifests among them, read. What that makes of each epoch is decided apart from the
//! store: a manifest makes a checkpoint; it is damaged where an object that it names is not listed, or with another length; objects of
//! an epoch without a manifest are what an attempt left.

use super::client::{Object, ObjectClient, ObjectErrorKind, ObjectResult};
use super::keys::{KeyOf, manifest_key, object_of, objects_of, parse};
use crate::checkpoint::{CheckpointState, Fault, FaultKind, ListedCheckpoint, Manifest};
use crate::config::ObjectUrl;
use crate::time::Epoch;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

/// All objects, and what the manifests among them say.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// In the order of keys; some may be there twice.
    pub objects: Vec<Object>,
    /// By their epochs.
    pub manifests: BTreeMap<Epoch, Result<Manifest, Fault>>,
}

impl Survey {
    /// Looks.
    pub fn take(client: &ObjectClient) -> ObjectResult<Self> {
        let objects = client.list()?;
        let mut manifests = BTreeMap::new();
        for object in &objects {
            if let Some(KeyOf::Manifest(epoch)) = parse(&object.key)
                && let Some(read) = read_manifest(client, epoch)?
            {
                manifests.insert(epoch, read);
            }
        }
        let mut survey = Self { objects, manifests };
        if survey.lacks_objects() {
            // A listing is not of one moment: a manifest may be in it that came while it was made, and what came before that is not.
            survey.objects.extend(client.list()?);
        }
        Ok(survey)
    }

    fn lacks_objects(&self) -> bool {
        let found: HashSet<&str> = self.objects.iter().map(|object| object.key.as_str()).collect();
        let mut read = self.manifests.values().filter_map(|read| read.as_ref().ok());
        read.any(|manifest| objects_of(manifest).iter().any(|key| !found.contains(key.as_str())))
    }

    /// What that makes of each epoch, in order.
    pub fn checkpoints(&self, url: &ObjectUrl) -> Vec<ListedCheckpoint> {
        let lengths: HashMap<&str, u64> =
            self.objects.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
        let mut states: BTreeMap<Epoch, CheckpointState> = BTreeMap::new();
        for (epoch, workers) in self.unpublished() {
            states.insert(epoch, CheckpointState::Incomplete { workers });
        }
        for (epoch, read) in &self.manifests {
            let state = match read {
                Err(fault) => CheckpointState::Damaged { manifest: None, faults: vec![fault.clone()] },
                Ok(manifest) => {
                    let faults = faults(url, manifest, &lengths);
                    match faults.is_empty() {
                        true => CheckpointState::Complete(Box::new(manifest.clone())),
                        false => CheckpointState::Damaged { manifest: Some(Box::new(manifest.clone())), faults },
                    }
                }
            };
            states.insert(*epoch, state);
        }
        states.into_iter().map(|(epoch, state)| ListedCheckpoint { epoch, state }).collect()
    }

    /// Epochs with objects and no manifest, and of how many workers there are some.
    fn unpublished(&self) -> BTreeMap<Epoch, usize> {
        let mut directories: BTreeMap<Epoch, BTreeSet<&str>> = BTreeMap::new();
        for object in &self.objects {
            if let Some(KeyOf::File(epoch, _)) = parse(&object.key)
                && !self.manifests.contains_key(&epoch)
            {
                let directory = object.key.rsplit_once('/').map_or("", |(directory, _)| directory);
                directories.entry(epoch).or_default().insert(directory);
            }
        }
        directories.into_iter().map(|(epoch, of)| (epoch, of.len())).collect()
    }
}

/// The manifest of an epoch; `None` where the checkpoint is not published.
pub fn read_manifest(client: &ObjectClient, epoch: Epoch) -> ObjectResult<Option<Result<Manifest, Fault>>> {
    let key = manifest_key(epoch);
    let bytes = match client.get(&key) {
        Ok(bytes) => bytes,
        Err(error) if error.kind == ObjectErrorKind::Missing => return Ok(None),
        Err(error) => return Err(error),
    };
    let url = client.url().of(&key);
    let path = Path::new(&url);
    let read = Manifest::from_bytes(&bytes, path).and_then(|manifest| match manifest.epoch == epoch {
        true => Ok(manifest),
        false => Err(Fault::content(path, format_args!("is that of epoch {}", manifest.epoch.number()))),
    });
    Ok(Some(read))
}

fn faults(url: &ObjectUrl, manifest: &Manifest, lengths: &HashMap<&str, u64>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for snapshot in &manifest.snapshots {
        for file in &snapshot.files.0 {
            let key = object_of(manifest, snapshot, file);
            let kind = match lengths.get(key.as_str()) {
                Some(found) if *found == file.bytes => continue,
                Some(found) => FaultKind::Length { expected: file.bytes, found: *found },
                None => FaultKind::Missing,
            };
            faults.push(Fault::new(Path::new(&url.of(&key)), kind));
        }
    }
    faults
}
