// What the admin API answers, by route: the one place where the pages' types say so. Checked by `make webtypes`.
declare namespace Api {
  /** Times are RFC 3339. */
  type Instant = string;
  /** A payload: JSON; or its beginning, when it is long; or a marker, when who asks may not see it. */
  type Payload = any;
  interface Redacted { redacted: true; bytes: number; hash: string }
  type Said = string | Redacted;

  interface Me {
    asked: boolean; name: string | null; role: "viewer" | "operator" | "admin" | null;
    payloads: boolean; sql: boolean;
  }
  interface Failure { code: number; message: string; metadata?: Record<string, string>; stacktrace?: string }
  interface Attempt {
    number: number; attempt: number; started_at?: Instant; ended_at: Instant; code: number; message: string;
    reason?: string; entry?: number; length: number; deployment?: string; node?: string; next_retry_at?: Instant;
  }
  interface Run {
    id: string; target: string; target_service_name: string; target_service_key?: string;
    target_handler_name: string; target_service_ty: string; status: string; created_at: Instant;
    modified_at: Instant; completed_at?: Instant; scheduled_start_at?: Instant; invoked_by?: string;
    invoked_by_id?: string; idempotency_key?: string; attempt: number; retry_count: number;
    next_retry_at?: Instant; last_failure?: Failure; last_failure_entry?: number; restarted_from?: string;
    deployment_id?: string; waiting_for?: string[]; waiting_since?: Instant;
    kept_until?: Instant; completion_result?: "success" | "failure";
    completion_failure?: string; output?: Payload; failed_attempts?: Attempt[];
  }
  /** What a step noted: of models what they used, of tools what they are. */
  interface Note {
    model?: string; asked?: string; prompt_tokens?: number; completion_tokens?: number; cost?: number;
    latency_ms?: number; first_token_ms?: number; finish_reason?: string; conversation?: string; tools?: string;
    messages?: number; why?: string; edited?: boolean | number[]; framework?: string; budgets?: OwnBudget[]; [name: string]: any;
  }
  interface Row {
    index: number; at?: Instant; kind: string; text?: string; name?: string; branch?: string;
    completion_id?: number; id_completion_id?: number; of?: string; meta?: Note; value?: Payload;
    failure?: Failure; keys?: string[]; invocation_id?: string; signal?: string | number; awakeable?: string;
    service?: string; handler?: string; key?: string; wake_at?: Instant; invoke_at?: Instant;
    edits?: Edit[]; budgets?: { account: string; name: string }[];
  }
  /** What a fork does otherwise than the run `of`, whose entry `entry` was edited. */
  interface Edit {
    what: "value" | "message" | "model"; of: string; entry: number; step?: string; at?: number; nth?: number;
    role?: string; told?: any; content?: any; model?: string;
  }
  /** A budget of one handler, as a model step has left it. */
  interface OwnBudget {
    depth: number; name: string; on_limit: string; limits: Record<string, number>;
    spent: Record<string, number>; began?: number;
  }
  interface Rows { run: Run; rows: Row[] }
  interface Chunk { run: number; attempt: number; data: any }

  interface Approval {
    id: string; status: "pending" | "approved" | "rejected" | "withdrawn"; question: Said; payload: Payload;
    digest: string; service: string; invocation: string; asked_at: Instant; deadline?: Instant | null;
    default?: boolean; tool?: string; approved?: boolean | null; by?: string; reason?: Said;
    decided_at?: Instant | null; timed_out?: boolean; edited?: boolean; edited_payload?: Payload;
  }

  interface Usage { prompt_tokens?: number; completion_tokens?: number }
  /** Its times are in seconds. */
  interface Session {
    agent: string; id: string; title: Said; created: number; updated: number; messages: number; turns: number;
    running: { turn: number; invocation: string; id: string } | null; usage: Usage; cost: number | null;
    model_calls: number; speaker: string; summarised_up_to: number | null;
  }
  interface ToolCall { id: string; function?: { name?: string; arguments?: string } }
  /** A message in OpenAI's shape. */
  interface Message {
    role?: string; content?: any; tool_calls?: ToolCall[]; name?: string; tool_call_id?: string;
    reasoning_content?: string;
  }
  interface SessionMessage {
    index: number; id: string; turn: number; at: number; role: string; message: Message; partial?: boolean;
  }
  interface Turn {
    turn: number; invocation: string; id: string; status: string; at: number; agent: string; cost: number | null;
    usage: Usage; model_calls: number; error: string;
  }
  interface Posted { id: string; invocation: string; into?: string }

  type Schema = any;
  interface Handler {
    name: string; ty?: string; public: boolean; input_description: string; output_description: string;
    input_json_schema?: Schema; output_json_schema?: Schema; documentation?: string;
  }
  interface RetryPolicy {
    initial_interval: string; exponentiation_factor: number; max_interval: string; max_attempts: number | null;
    on_max_attempts?: string;
  }
  interface Service {
    name: string; ty: string; handlers: Handler[]; deployment_id?: string; revision: number; public: boolean;
    idempotency_retention: string; journal_retention: string; inactivity_timeout: string; abort_timeout: string;
    retry_policy?: RetryPolicy; documentation?: string;
  }

  interface Spent { cost: number | null; tokens: number; calls: number }
  interface Overview {
    window: string; bucket_seconds: number; statuses: Record<string, number>;
    ended: { at: Instant; success: number; failure: number }[]; spend: ({ at: Instant } & Spent)[];
    by_agent: ({ agent: string } & Spent)[]; by_service: ({ service: string } & Spent)[]; by_model: ({ model: string } & Spent)[];
    by_session: ({ service: string; key: string } & Spent)[];
    by_invocation: ({ id: string; target: string } & Spent)[];
  }
  interface Key { service: string; key: string; holder: string | null; waiting: number; values: number }
  interface Holding {
    service: string; key: string; holder: string | null; inbox: { id: string; created_at: Instant }[];
    promises: { key: string; completed: boolean; value: Said | null; failure: string | null }[];
  }
  /** Values as text, or as bytes where they are none. */
  interface State { object_key: string; version: string; state: Record<string, string | number[] | Redacted> }
  interface Finding { in: string; count: number; excerpt: string; entry?: number }
  interface Found {
    runs: { run: Run; found: Finding[] }[]; looked_at: number; back_to: Instant | null; after: number | null;
    cut: "time" | "limit" | null;
  }
  interface Batch {
    succeeded: any[]; failed: { invocation_id: string; error: string }[]; after: number | null;
  }

  /** By the path of a GET; any for one that is not written here. */
  type Answer<P extends string> =
    P extends "/whoami" ? Me :
    P extends "/version" ? { version: string } :
    P extends `/overview?${string}` ? Overview :
    P extends `/objects?${string}` ? { objects: Key[]; more: boolean } :
    P extends `/objects/${string}?object_key=${string}` ? Holding :
    P extends `/services/${string}/state?object_key=${string}` ? State :
    P extends "/services" ? { services: Service[] } :
    P extends `/services/${string}` ? Service :
    P extends `/invocations?${string}` ? { invocations: Run[]; after: number | null } :
    P extends `/invocations/${string}/rows?${string}` ? Rows :
    P extends `/invocations/${string}/entries/${string}` ? Row :
    P extends `/conversations/${string}` ? { messages: any[] } :
    P extends `/search?${string}` ? Found :
    P extends `/approvals?${string}` ? { approvals: Approval[]; after?: string } :
    P extends `/approvals/${string}` ? Approval :
    P extends `/sessions?${string}` ? { sessions: Session[]; after: string | null } :
    P extends `/sessions/${string}/turns?${string}` ? { turns: Turn[]; after: number | null } :
    P extends `/sessions/${string}/messages?${string}` ? { messages: SessionMessage[]; after?: number | null } :
    any;
}
