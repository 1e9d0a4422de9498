CREATE TABLE invocation (
	seq INTEGER NOT NULL,
	id TEXT NOT NULL,
	service TEXT NOT NULL,
	handler TEXT NOT NULL,
	"key" TEXT,
	scope TEXT NOT NULL,
	service_kind TEXT NOT NULL,
	handler_kind TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	invoked_by TEXT NOT NULL,
	caller TEXT,
	idempotency_key TEXT,
	completion_retention_ms BIGINT NOT NULL,
	journal_retention_ms BIGINT NOT NULL,
	execute_at BIGINT,
	restarted_from TEXT,
	seed TEXT,
	traceparent TEXT,
	status TEXT NOT NULL,
	modified_at BIGINT NOT NULL,
	completed_at BIGINT,
	attempt BIGINT NOT NULL,
	failures BIGINT NOT NULL,
	retry_at BIGINT,
	last_failure TEXT,
	last_failure_entry BIGINT,
	deployment TEXT,
	protocol BIGINT,
	awaiting TEXT,
	seen BIGINT NOT NULL,
	waiters TEXT,
	failure TEXT,
	journal_kept BIGINT NOT NULL,
	expires_at BIGINT,
	journal_expires_at BIGINT,
	result BLOB,
	PRIMARY KEY (seq),
	UNIQUE (id)
);
CREATE INDEX invocation_by_creation ON invocation (created_at);
CREATE INDEX invocation_by_key ON invocation (service, "key") WHERE key is not null;
CREATE INDEX invocation_by_service ON invocation (service);
CREATE INDEX invocation_expiring ON invocation (expires_at) WHERE expires_at is not null;
CREATE INDEX invocation_in_flight ON invocation (status) WHERE status <> 'completed';
CREATE INDEX invocation_of_service_by_creation ON invocation (service, created_at);
CREATE INDEX journal_expiring ON invocation (journal_expires_at) WHERE journal_kept = 1 and journal_expires_at is not null;
CREATE TABLE journal (
	seq BIGINT NOT NULL,
	idx BIGINT NOT NULL,
	kind TEXT NOT NULL,
	name TEXT,
	branch TEXT,
	completion BIGINT,
	detail TEXT,
	at BIGINT NOT NULL,
	payload BLOB,
	PRIMARY KEY (seq, idx)
)
 WITHOUT ROWID;
CREATE INDEX journal_noted ON journal (at) WHERE kind = 'RunCompletion' and detail is not null;
CREATE TABLE attempt (
	seq BIGINT NOT NULL,
	number BIGINT NOT NULL,
	attempt BIGINT NOT NULL,
	started_at BIGINT,
	ended_at BIGINT NOT NULL,
	code BIGINT NOT NULL,
	message TEXT NOT NULL,
	reason TEXT,
	entry BIGINT,
	length BIGINT NOT NULL,
	deployment TEXT,
	node TEXT NOT NULL,
	retry_at BIGINT,
	PRIMARY KEY (seq, number)
)
 WITHOUT ROWID;
CREATE TABLE state (
	service TEXT NOT NULL,
	scope TEXT NOT NULL,
	"key" TEXT NOT NULL,
	name TEXT NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY (service, scope, "key", name)
)
 WITHOUT ROWID;
CREATE INDEX state_of_internal ON state (service, scope, name, "key") WHERE service >= 'agentdur.' and service < 'agentdur/';
CREATE TABLE lock (
	service TEXT NOT NULL,
	scope TEXT NOT NULL,
	"key" TEXT NOT NULL,
	holder TEXT NOT NULL,
	PRIMARY KEY (service, scope, "key")
)
 WITHOUT ROWID;
CREATE TABLE inbox (
	service TEXT NOT NULL,
	scope TEXT NOT NULL,
	"key" TEXT NOT NULL,
	position BIGINT NOT NULL,
	invocation TEXT,
	edit TEXT,
	PRIMARY KEY (service, scope, "key", position)
)
 WITHOUT ROWID;
CREATE TABLE promise (
	service TEXT NOT NULL,
	scope TEXT NOT NULL,
	"key" TEXT NOT NULL,
	name TEXT NOT NULL,
	failure TEXT,
	waiters TEXT,
	result BLOB,
	PRIMARY KEY (service, scope, "key", name)
)
 WITHOUT ROWID;
CREATE TABLE timer (
	at BIGINT NOT NULL,
	seq BIGINT NOT NULL,
	completion BIGINT NOT NULL,
	PRIMARY KEY (at, seq, completion)
)
 WITHOUT ROWID;
CREATE TABLE deployment (
	id TEXT NOT NULL,
	record BLOB NOT NULL,
	PRIMARY KEY (id)
)
 WITHOUT ROWID;
CREATE TABLE message (
	hash TEXT NOT NULL,
	parent TEXT NOT NULL,
	used_at BIGINT NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY (hash)
)
 WITHOUT ROWID;
CREATE INDEX message_by_parent ON message (parent);
CREATE INDEX message_by_use ON message (used_at);
