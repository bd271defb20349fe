//! The store's clock, as its answers show it: saves the request that would ask for it.

use std::time::SystemTime;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Connects so that each answer's `Date` is among its extensions, as a [`SystemTime`]. What a put gives back
/// has them too.
#[derive(Debug)]
pub(crate) struct Dated;

impl HttpConnector for Dated {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(DatedService(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct DatedService(HttpClient);

#[async_trait]
impl HttpService for DatedService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.0.execute(request).await?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
            response.extensions_mut().insert::<SystemTime>(time);
        }
        Ok(response)
    }
}
