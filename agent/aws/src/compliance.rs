//! SSM Compliance and Inventory: what a host says about its patches.
//!
//! Compliance goes as the full list each time, since every call replaces what SSM had; its hash lets
//! SSM leave things as they are. Inventory goes as a hash alone first, and in full if SSM has
//! something else. One call is one try; whoever calls decides about the next.

use aws_sdk_ssm::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ComplianceExecutionSummary, ComplianceItemEntry, ComplianceSeverity, ComplianceStatus,
        ComplianceUploadType, InventoryItem,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::{DateTime, date_time::Format};
use palisade_agent::{
    clock::Timestamp,
    errors::Chain,
    patch::{
        Again, Compliance, ComplianceError, ComplianceItem, ComplianceUpload, InventoryUpload, Put,
        Severity,
    },
};

use crate::Clients;

/// The type of our items and of our rows.
pub const TYPE: &str = "Custom:PalisadePatch";
/// The version of our rows' attributes.
const SCHEMA: &str = "1.0";
/// What a report follows.
const EXECUTION: &str = "Patch";
/// What resources are called that SSM manages.
const MANAGED: &str = "ManagedInstance";

/// SSM as patching sees it.
#[derive(Clone, Debug)]
pub struct SsmCompliance {
    client: Client,
}

impl SsmCompliance {
    /// A client.
    #[must_use]
    pub fn new(clients: &Clients) -> Self {
        Self { client: Client::new(clients.config()) }
    }
}

impl Compliance for SsmCompliance {
    async fn put(&self, upload: &ComplianceUpload) -> Result<Put, ComplianceError> {
        const OP: &str = "tell SSM Compliance where the host stands";
        let summary = ComplianceExecutionSummary::builder()
            .execution_time(DateTime::from_secs(upload.executed.as_secs()))
            .set_execution_id(upload.execution.clone())
            .execution_type(EXECUTION)
            .build()
            .map_err(|e| broken(OP, e))?;
        let items: Result<Vec<_>, _> = upload.items.iter().map(entry).collect();
        let call = self
            .client
            .put_compliance_items()
            .resource_id(&upload.instance)
            .resource_type(MANAGED)
            .compliance_type(TYPE)
            .execution_summary(summary)
            .set_items(Some(items.map_err(|e| broken(OP, e))?))
            .item_content_hash(&upload.hash)
            .upload_type(ComplianceUploadType::Complete);
        // The answer is empty; whether SSM had the same before, it does not say.
        call.send().await.map(|_| Put::Stored).map_err(|e| classify(OP, &upload.instance, e))
    }

    async fn put_inventory(&self, upload: &InventoryUpload) -> Result<Put, ComplianceError> {
        const OP: &str = "tell SSM Inventory of the host's patches";
        let send = async |item: InventoryItem| {
            self.client.put_inventory().instance_id(&upload.instance).items(item).send().await
        };
        let item = |content| {
            InventoryItem::builder()
                .type_name(TYPE)
                .schema_version(SCHEMA)
                .capture_time(capture_time(upload.captured))
                .content_hash(&upload.hash)
                .set_content(content)
                .build()
                .map_err(|e| broken(OP, e))
        };
        match send(item(None)?).await {
            Ok(_) => return Ok(Put::Unchanged),
            Err(e) if has_other_content(&e) => {}
            Err(e) => return Err(classify(OP, &upload.instance, e)),
        }
        let rows = upload.rows.iter().map(|r| r.clone().into_iter().collect()).collect();
        let sent = send(item(Some(rows))?).await;
        sent.map(|_| Put::Stored).map_err(|e| classify(OP, &upload.instance, e))
    }
}

fn entry(i: &ComplianceItem) -> Result<ComplianceItemEntry, aws_sdk_ssm::error::BuildError> {
    let status = match i.compliant {
        true => ComplianceStatus::Compliant,
        false => ComplianceStatus::NonCompliant,
    };
    let details = i.details.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    ComplianceItemEntry::builder()
        .id(&i.id)
        .title(&i.title)
        .severity(severity(i.severity))
        .status(status)
        .set_details(Some(details))
        .build()
}

fn severity(s: Severity) -> ComplianceSeverity {
    match s {
        Severity::Unspecified => ComplianceSeverity::Unspecified,
        Severity::Informational => ComplianceSeverity::Informational,
        Severity::Low => ComplianceSeverity::Low,
        Severity::Medium => ComplianceSeverity::Medium,
        Severity::High => ComplianceSeverity::High,
        Severity::Critical => ComplianceSeverity::Critical,
    }
}

/// `2026-08-22T15:17:05Z`: SSM takes no fractions of a second here.
fn capture_time(at: Timestamp) -> String {
    // Only years that no clock shows cannot be written; SSM refuses those below.
    DateTime::from_secs(at.as_secs()).fmt(Format::DateTime).unwrap_or_default()
}

/// SSM has nothing of this hash: it wants the rows.
fn has_other_content<E: ProvideErrorMetadata>(e: &SdkError<E, HttpResponse>) -> bool {
    let code = e.as_service_error().and_then(ProvideErrorMetadata::code);
    matches!(code, Some("ItemContentMismatchException"))
}

/// A request that the SDK's own builders refuse.
fn broken(op: &str, e: aws_sdk_ssm::error::BuildError) -> ComplianceError {
    ComplianceError {
        what: op.to_owned(),
        again: Again::Never,
        hint: None,
        source: Some(Box::new(e)),
    }
}

fn classify<E>(op: &str, instance: &str, e: SdkError<E, HttpResponse>) -> ComplianceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = e.raw_response().map_or(0, |r| r.status().as_u16());
    let Some(service) = e.as_service_error() else {
        // As one text: the SDK's own words are "dispatch failure", and the cause is below them.
        let source = Chain(&e).to_string();
        let hint = Some(no_answer_hint(&source));
        let source = Some(source.into());
        return ComplianceError { what: op.to_owned(), again: Again::Later, hint, source };
    };
    let code = service.code().unwrap_or("an error without a name");
    let (again, hint) = advice(code, status, instance);
    let message = service.message().unwrap_or("no message");
    let source = format!("{code} (status {status}): {message}");
    ComplianceError { what: op.to_owned(), again, hint, source: Some(source.into()) }
}

/// What to do where no answer of the service came.
fn no_answer_hint(text: &str) -> String {
    let credentials = ["credential", "Credential", "identity"].iter().any(|w| text.contains(w));
    let hint = if credentials {
        "give the instance a role with ssm:PutComplianceItems and ssm:PutInventory"
    } else {
        "let the host reach ssm.<region>.amazonaws.com by HTTPS, or give it a VPC endpoint for SSM"
    };
    hint.to_owned()
}

/// Whether to try again, and what somebody can do.
fn advice(code: &str, status: u16, instance: &str) -> (Again, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match code {
        "InvalidResourceId" | "InvalidInstanceId" | "InvalidResourceType" => (
            // A host may register later than its agent starts.
            Again::Later,
            Some(format!(
                "{instance} is no managed node of SSM here: check that amazon-ssm-agent runs and is \
                 registered in this region (aws ssm describe-instance-information)"
            )),
        ),
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => (
            Again::Later,
            hint("allow ssm:PutComplianceItems and ssm:PutInventory to the instance's role"),
        ),
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "RequestExpired" => {
            (Again::Later, hint("check the host's clock and that its role's credentials are valid"))
        }
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => (Again::Later, None),
        "ComplianceTypeCountLimitExceededException" | "CustomSchemaCountLimitExceededException" => {
            (
                Again::Later,
                hint(
                    "the account has all the custom types that SSM allows: delete one that is unused",
                ),
            )
        }
        "ItemSizeLimitExceededException"
        | "TotalSizeLimitExceededException"
        | "InvalidItemContentException"
        | "InvalidTypeNameException"
        | "UnsupportedInventorySchemaVersionException"
        | "ValidationException"
        | "SerializationException" => {
            (Again::Never, hint("this is a fault of the agent: please report it with this text"))
        }
        _ if status == 429 || status == 0 || status >= 500 => (Again::Later, None),
        // Of an error that nobody knows, nobody knows that it stays.
        _ => (Again::Later, None),
    }
}
