-- Questions in the forms that the `restate` command and Restate's web pages send. One ends where an empty line is.

SELECT id FROM sys_invocation inv WHERE status != 'completed' ORDER BY inv.created_at DESC, inv.id
LIMIT 100

SELECT id FROM sys_invocation inv ORDER BY inv.created_at ASC, inv.id LIMIT 3

SELECT inv.id, inv.target, inv.target_service_ty, inv.idempotency_key, inv.created_at,
inv.modified_at AS state_modified_at, inv.pinned_deployment_id, inv.invoked_by_id,
inv.invoked_by_target, inv.completion_result, inv.completion_failure, dp.id IS NOT NULL AS
pinned_deployment_exists, inv.status FROM sys_invocation inv LEFT JOIN sys_deployment dp ON dp.id =
inv.pinned_deployment_id WHERE inv.target_service_name IN ('Work') ORDER BY inv.created_at DESC,
inv.id

SELECT id FROM sys_invocation inv WHERE inv.target_service_key IN ('k1') AND status != 'completed'
ORDER BY inv.created_at DESC, inv.id LIMIT 100

SELECT id FROM sys_invocation inv WHERE inv.target_service_name IN (select name from sys_service
where ty = 'virtual_object') AND status != 'completed' ORDER BY inv.created_at DESC, inv.id LIMIT
100

SELECT target_service_name, target_handler_name, 'pending' as status, COUNT(1) as num_invocations,
MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as oldest_invocation FROM
sys_invocation_status WHERE status == 'inboxed' AND target_service_name IN ('Work','Room') GROUP BY
target_service_name, target_handler_name

SELECT target_service_name, target_handler_name, status, COUNT(1) as n, FIRST_VALUE(id ORDER BY
created_at ASC) as oldest FROM sys_invocation WHERE target_service_name IN ('Room','Signup') GROUP
BY target_service_name, target_handler_name, status ORDER BY target_handler_name, status

SELECT service_name, service_key, COUNT(1) as num_pending FROM sys_inbox WHERE service_name IN
('Room') GROUP BY service_name, service_key ORDER BY num_pending DESC

SELECT target_service_name as service_name, target_service_key as service_key, status as
invocation_status, first_value(id) as holder, first_value(target_handler_name) as handler, 0 as
num_pending FROM sys_invocation WHERE status != 'pending' AND target_service_name IN ('Room') GROUP
BY target_service_name, target_service_key, status

SELECT sj.index, sj.entry_type, sj.completed, sj.invoked_id, sj.invoked_target, sj.sleep_wakeup_at,
sj.name, sj.promise_name, sj.version FROM sys_journal sj JOIN sys_invocation i ON i.id = sj.id WHERE
i.target = 'Work/steps' ORDER BY index DESC LIMIT 100

SELECT j.index, j.entry_lite_json FROM sys_journal j JOIN sys_invocation i ON i.id = j.id WHERE
i.target_service_name = 'Work' AND i.target_handler_name IN ('ok', 'steps', 'refuse') ORDER BY
i.target, index

SELECT j.index, j.entry_json FROM sys_journal j JOIN sys_invocation i ON i.id = j.id WHERE i.target
IN ('Work/steps', 'Work/refuse') AND j.index > 0 ORDER BY i.target, index

SELECT event_type, event_json->>'error_message' AS message, event_json->>'error_code' AS code FROM
sys_journal_events e JOIN sys_invocation i ON i.id = e.id WHERE i.target = 'Work/fail' ORDER BY
appended_at DESC LIMIT 1

SELECT service_name, service_key, invocation_id FROM sys_keyed_service_status WHERE service_name =
'Room'

select key, value from state where service_name = 'Room' and service_key = 'k2' ORDER BY key

SELECT key, key_length, value_length, value_utf8, CASE WHEN value_length <= 2 THEN value END AS
value, partition_key FROM state ORDER BY key

SELECT DISTINCT service_name FROM state ORDER BY service_name

SELECT service_name, COALESCE(SUM(value_length), 0) AS size FROM state GROUP BY service_name ORDER
BY 1

SELECT COUNT(*) AS n FROM sys_promise WHERE service_name = 'Signup' AND completed = false

SELECT COUNT(*) AS ahead FROM sys_inbox WHERE service_key = 'k1' AND service_name = 'Room' AND
sequence_number < (SELECT MAX(sequence_number) FROM sys_inbox)

SELECT id FROM sys_invocation WHERE target_service_key = 'k1' AND target_service_name = 'Room' AND
status NOT IN ('completed', 'pending', 'scheduled') AND target_handler_name IN ('enter', 'ok')

SELECT name, revision, public, ty, deployment_id FROM sys_service ORDER BY name

SELECT d.id, d.ty, d.endpoint, array_has(d.services, 'Room') AS rooms FROM sys_deployment d WHERE
array_length(d.services) = 3

WITH active AS (SELECT DISTINCT deployment_id AS id FROM sys_service WHERE deployment_id IS NOT NULL
UNION SELECT DISTINCT pinned_deployment_id AS id FROM sys_invocation_status WHERE
pinned_deployment_id IS NOT NULL AND status != 'completed') SELECT d.id AS id FROM sys_deployment d
EXCEPT SELECT id FROM active

SELECT SUM(CASE WHEN in_flight THEN 1 ELSE 0 END) AS running, SUM(CASE WHEN NOT in_flight AND
retry_count > 0 THEN 1 ELSE 0 END) AS backing_off FROM sys_invocation_state

SELECT SUM(CASE WHEN status = 'inboxed' THEN 1 ELSE 0 END) AS inboxed, SUM(CASE WHEN status =
'scheduled' THEN 1 ELSE 0 END) AS scheduled, SUM(CASE WHEN status = 'invoked' THEN 1 ELSE 0 END) AS
invoked FROM sys_invocation_status WHERE status IN ('inboxed', 'scheduled', 'invoked')

SELECT ss.target_service_name AS service_name, CASE WHEN ss.status = 'invoked' AND sis.in_flight IS
NOT TRUE THEN 'waiting' ELSE ss.status END AS bucket, COUNT(1) AS count FROM sys_invocation_status
ss LEFT JOIN sys_invocation_state sis ON sis.id = ss.id GROUP BY ss.target_service_name, CASE WHEN
ss.status = 'invoked' AND sis.in_flight IS NOT TRUE THEN 'waiting' ELSE ss.status END

SELECT COUNT(1) FILTER (WHERE completion_result = 'success') AS ok, COUNT(1) FILTER (WHERE
completion_result = 'failure') AS failed FROM sys_invocation_status WHERE status = 'completed' AND
completed_at >= now() - INTERVAL '1 hour' AND completed_at < '2100-01-01T00:00:00Z'

SELECT SUM(n) AS n FROM (SELECT to_unixtime(date_bin(INTERVAL '60 seconds', completed_at, TIMESTAMP
'1970-01-01T00:00:00')) AS bucket, COUNT(1) AS n FROM sys_invocation_status WHERE status =
'completed' GROUP BY bucket)

SELECT COUNT(1) AS n FROM (SELECT id, status FROM sys_invocation LIMIT 5)

SELECT target, status FROM sys_invocation WHERE target ILIKE '%WORK/S%' OR target LIKE '%wait' ORDER
BY target

SELECT target FROM sys_invocation WHERE target_service_name = 'Work' ORDER BY scheduled_at
DESC NULLS LAST, target LIMIT 3

SELECT target, ROW_NUMBER() OVER (PARTITION BY target_service_name ORDER BY created_at) AS nr FROM
sys_invocation ORDER BY target_service_name, nr

SELECT target, completion_failure, completion_retention, journal_retention, target_service_ty,
invoked_by, pinned_service_protocol_version, scheduled_at, scheduled_start_at FROM sys_invocation
WHERE target_service_name <> 'Room' ORDER BY created_at

SELECT status, journal_size, journal_commands_size, array_length(suspended_waiting_for_signals) AS n FROM
sys_invocation WHERE target IN ('Work/steps', 'Work/wait') ORDER BY target

SELECT last_failure, last_failure_error_code FROM sys_invocation WHERE target = 'Work/fail'

SELECT 1 FROM sys_invocation_status LIMIT 1

SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'sys_journal' AND column_name IN
('version', 'entry_json', 'appended_at')

SELECT id, partition_key FROM sys_invocation_status WHERE target = 'Room/k1/enter' ORDER BY
created_at

SELECT pattern, concurrency, description, disabled, version, last_modified FROM sys_rules ORDER BY
pattern

SELECT COUNT(*) AS n FROM sys_vqueues WHERE stage = 'inbox'
