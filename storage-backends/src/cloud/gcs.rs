//! Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;

use super::http::{Target, Watching};
use super::settings::Settings;
use super::{client, env_of, guarded, retry};
use crate::error::OpenError;
use crate::options::StoreOptions;
use crate::patience::Patience;
use crate::url::Cloud;

/// Opens a bucket of Google Cloud Storage.
///
/// # Errors
/// As for [`crate::open`].
pub(crate) fn open(
    url: String,
    bucket: &str,
    prefix: &Path,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut settings = Settings::new(Cloud::Gcs);
    settings.lay(env_of(options, "GOOGLE_"));
    settings.lay_strict(&options.settings)?;
    let secrets = settings.secrets();
    let http = settings.allow_http()?;
    let target = Target::new(settings.get("google_base_url"), bucket);
    let watching = Watching::new(options.timeout, patience.clone(), target);
    let builder = GoogleCloudStorageBuilder::new()
        .with_http_connector(watching)
        .with_client_options(client(options, http))
        .with_retry(retry(options));
    settings.remove(&["allow_http"]);
    let builder = settings.apply(builder, GoogleCloudStorageBuilder::with_config);
    guarded(url, prefix, secrets, builder.with_bucket_name(bucket).build())
}
