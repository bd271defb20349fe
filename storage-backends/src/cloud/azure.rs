//! Azure Blob Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;

use super::http::{Target, Watching};
use super::settings::Settings;
use super::{client, env_of, guarded, retry};
use crate::error::OpenError;
use crate::options::StoreOptions;
use crate::patience::Patience;
use crate::url::Cloud;

/// Opens a container of Azure Blob Storage.
///
/// # Errors
/// As for [`crate::open`].
pub(crate) fn open(
    url: String,
    container: &str,
    prefix: &Path,
    options: &StoreOptions,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut settings = Settings::new(Cloud::Azure);
    settings.lay(env_of(options, "AZURE_").chain(env_of(options, "IDENTITY_ENDPOINT")));
    settings.lay_strict(&options.settings)?;
    let secrets = settings.secrets();
    // The emulator speaks plain HTTP on this machine.
    let http = settings.allow_http()? || settings.is_true("azure_storage_use_emulator");
    let target = Target::new(settings.get("azure_storage_endpoint"), container);
    let watching = Watching::new(options.timeout, patience.clone(), target);
    let builder = MicrosoftAzureBuilder::new()
        .with_http_connector(watching)
        .with_client_options(client(options, http))
        .with_retry(retry(options));
    settings.remove(&["allow_http"]);
    let builder = settings.apply(builder, MicrosoftAzureBuilder::with_config);
    guarded(url, prefix, secrets, builder.with_container_name(container).build())
}
