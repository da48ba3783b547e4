//! The rim: one kind of object in one place of the API server, read as bytes.

use std::{collections::VecDeque, pin::Pin};

use futures::{
    AsyncReadExt as _,
    io::{AsyncBufRead, AsyncBufReadExt as _},
};
use kube::{
    Client, Error, Resource,
    api::{DeleteParams, GetParams, ListParams, PostParams, WatchParams},
    core::Request,
};
use serde::{
    Deserialize, Serialize,
    de::{Error as _, IgnoredAny},
};

use super::{
    metadata::Text,
    null_is_default,
    object::{LARGEST, RawObject},
    splitter::Splitter,
    watching::Lines,
};

/// Objects of one kind, of one namespace or of all.
#[derive(Clone)]
pub(crate) struct Collection {
    client: Client,
    request: Request,
}

impl Collection {
    /// Those of `namespace`; without one, those of the whole cluster.
    pub(crate) fn of<K: Resource<DynamicType = ()>>(client: Client, namespace: Option<&str>) -> Self {
        Self { client, request: Request::new(K::url_path(&(), namespace)) }
    }

    /// Begins to read a list, or a page of it.
    ///
    /// # Errors
    /// [`Error::Api`] is the API server's word; any other says that it did not answer.
    pub(crate) async fn list(&self, params: &ListParams) -> kube::Result<Page> {
        Ok(Page::new(self.send(self.request.list(params)).await?))
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn watch(&self, params: &WatchParams, version: &str) -> kube::Result<Lines> {
        Ok(Lines::new(self.send(self.request.watch(params, version)).await?))
    }

    /// Reads one object.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn get(&self, name: &str) -> kube::Result<RawObject> {
        self.one(self.request.get(name, &GetParams::default())).await
    }

    /// Makes an object. What comes back is the object as it was stored, if it can be read.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn create(&self, object: &impl Serialize) -> kube::Result<RawObject> {
        let content = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        self.one(self.request.create(&PostParams::default(), content)).await
    }

    /// Writes an object anew.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn replace(&self, name: &str, object: &impl Serialize) -> kube::Result<RawObject> {
        let content = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        self.one(self.request.replace(name, &PostParams::default(), content)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn delete(&self, name: &str, params: &DeleteParams) -> kube::Result<()> {
        self.one(self.request.delete(name, params)).await.map(drop)
    }

    async fn one(&self, request: Prepared) -> kube::Result<RawObject> {
        let mut json = Vec::new();
        let body = self.send(request).await?;
        Box::pin(body).take(LARGEST as u64).read_to_end(&mut json).await.map_err(Error::ReadEvents)?;
        Ok(RawObject::new(json))
    }

    async fn send(&self, request: Prepared) -> kube::Result<impl AsyncBufRead + Send + use<>> {
        self.client.request_stream(request.map_err(Error::BuildRequest)?).await
    }
}

type Prepared = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// A list, or a page of it, that is arriving.
pub(crate) struct Page {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    splitter: Splitter,
    /// Items that have arrived and were not asked for yet.
    ready: VecDeque<Vec<u8>>,
}

/// What a list says of itself.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct End {
    /// The version of the whole list.
    pub version: String,
    /// Where its next page begins, if there is one.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Around {
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: AroundMetadata,
    /// Must be there: else any JSON object would be a list of nothing, and all objects would seem to be deleted.
    #[serde(deserialize_with = "null_is_default")]
    items: Vec<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AroundMetadata {
    resource_version: Text,
    r#continue: Text,
}

impl Page {
    fn new(body: impl AsyncBufRead + Send + 'static) -> Self {
        Self { body: Box::pin(body), splitter: Splitter::default(), ready: VecDeque::new() }
    }

    /// The next object; after the last one, what the page says of itself.
    ///
    /// # Errors
    /// [`Error::SerdeError`] is an answer that is no list; [`Error::ReadEvents`] a connection that broke.
    pub(crate) async fn next(&mut self) -> kube::Result<Result<RawObject, End>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Ok(RawObject::new(item)));
            }
            let arrived = self.body.fill_buf().await.map_err(Error::ReadEvents)?;
            if arrived.is_empty() {
                return end(self.splitter.around()).map(Err).map_err(Error::SerdeError);
            }
            let ready = &mut self.ready;
            self.splitter.take(arrived, |item| ready.push_back(item));
            let taken = arrived.len();
            self.body.as_mut().consume(taken);
        }
    }
}

fn end(around: &[u8]) -> Result<End, serde_json::Error> {
    let Around { metadata, items } = serde_json::from_slice(around)?;
    if !items.is_empty() {
        return Err(serde_json::Error::custom("a list whose items are hidden"));
    }
    let AroundMetadata { resource_version, r#continue } = metadata;
    let version = resource_version.filled().map(str::to_owned);
    let version = version.ok_or_else(|| serde_json::Error::custom("a list without a resourceVersion"))?;
    Ok(End { version, next: r#continue.filled().map(str::to_owned) })
}

/// Whether an error is an answer that nobody can read, which is not the absence of one.
pub(crate) fn is_garbled(error: &Error) -> bool {
    matches!(error, Error::SerdeError(_))
}
