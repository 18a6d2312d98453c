-- One organisation never sees another, whatever a statement says: a row is there
-- only for transactions of its organisation or of the installation. Without the
-- setting, which each transaction makes for itself, there is no row at all.

-- +goose Up

-- keepmq_isolate protects every table that has an org column, and those whose id
-- is that of an organisation. It is called after all steps, so that no later
-- table is forgotten.
-- +goose StatementBegin
CREATE FUNCTION keepmq_isolate() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.relname AS name, format('%I = %s', a.attname, 'NULLIF(current_setting(''keepmq.org'', TRUE), '''')') AS mine
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                AND a.attname = CASE WHEN c.relname IN ('org', 'retired_org') THEN 'id' ELSE 'org' END
        UNION ALL
        SELECT 'data_key', 'name = ''org:'' || NULLIF(current_setting(''keepmq.org'', TRUE), '''')'
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t.name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t.name);
        IF NOT EXISTS (SELECT 1 FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = t.name AND p.policyname = 'keepmq_org') THEN
            EXECUTE format('CREATE POLICY keepmq_org ON %I USING (current_setting(''keepmq.org'', TRUE) = ''*'' OR %s)', t.name, t.mine);
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd
