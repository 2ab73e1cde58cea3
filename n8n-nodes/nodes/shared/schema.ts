// From a task's input schema to the editor's form fields, and back to an input.

import type { FieldType, IDataObject, ResourceMapperField } from 'n8n-workflow';

/** The part of JSON Schema that decides about a form field. */
export interface Schema {
	type?: string | string[];
	enum?: unknown[];
	format?: string;
	description?: string;
	default?: unknown;
	required?: string[];
	properties?: Properties;
	additionalProperties?: boolean | Schema;
	unevaluatedProperties?: boolean | Schema;
	anyOf?: Schema[];
	oneOf?: Schema[];
	allOf?: Schema[];
	$ref?: string;
	$defs?: Record<string, Schema>;
	definitions?: Record<string, Schema>;
}

/** What a reference within the document points at. */
function target(root: Schema, reference: string): Schema | undefined {
	if (!reference.startsWith('#')) return undefined;
	const steps = decodeURIComponent(reference.slice(1)).split('/').slice(1);
	return steps
		.map((step) => step.replace(/~1/g, '/').replace(/~0/g, '~'))
		.reduce<unknown>((at, step) => (at as IDataObject | undefined)?.[step], root) as Schema | undefined;
}

type Properties = Record<string, Schema>;

/** A property that both describe is what both say. */
function both(some: Properties = {}, more: Properties = {}): Properties {
	const shared = Object.keys(more).filter((id) => Object.keys(some).includes(id));
	const joined = shared.map((id) => [id, { allOf: [some[id], more[id]] }]);
	return { ...some, ...more, ...Object.fromEntries(joined) };
}

/** A schema with what its `$ref` and `allOf` say taken in; `seen` ends references in a circle. */
function resolved(schema: Schema, root: Schema, seen: string[] = []): Schema {
	const { $ref, allOf = [], ...own } = schema;
	const pointed = $ref !== undefined && !seen.includes($ref) ? target(root, $ref) : undefined;
	const within = $ref === undefined ? seen : [...seen, $ref];
	const parts = [...(pointed ? [pointed] : []), ...allOf].map((part) => resolved(part, root, within));
	return [...parts, own].reduce<Schema>(
		(all, part) => ({
			...all,
			...part,
			required: [...(all.required ?? []), ...(part.required ?? [])],
			properties: both(all.properties, part.properties),
		}),
		{},
	);
}

/** A property's schema, and those it is one of. */
function propertyOf(schema: Schema, root: Schema): Schema {
	const whole = resolved(schema, root);
	const choices = (of: Schema[] | undefined) => of?.map((one) => resolved(one, root));
	return { ...whole, anyOf: choices(whole.anyOf), oneOf: choices(whole.oneOf) };
}

interface Form {
	properties: [string, Schema][];
	required: Set<string>;
	/** Whether the input may have fields that the schema does not name, or names in one variant only. */
	open: boolean;
}

/** What an input is made of; nothing when it is no object. */
function formOf(schema: Schema | null | undefined): Form | undefined {
	const root = schema ?? {};
	const { type, properties, required, oneOf, anyOf, ...rest } = resolved(root, root);
	const closed = rest.additionalProperties === false || rest.unevaluatedProperties === false;
	if (type !== undefined && !([] as string[]).concat(type).includes('object')) return undefined;
	const named = Object.entries(properties ?? {});
	return {
		properties: named.map(([id, property]) => [id, propertyOf(property, root)]),
		required: new Set(required),
		open: !closed || oneOf !== undefined || anyOf !== undefined,
	};
}

function typesOf(schema: Schema): string[] {
	if (schema.type !== undefined) return ([] as string[]).concat(schema.type);
	const choices = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
	return [...new Set(choices.flatMap(typesOf))];
}

/** n8n takes only the very values of a list: numbers, which come as text as well, are typed in. */
function choicesOf(schema: Schema): string[] | undefined {
	const all = schema.enum?.filter((value) => value !== null) ?? [];
	return all.length > 0 && all.every((value) => typeof value === 'string') ? (all as string[]) : undefined;
}

function fieldType(schema: Schema): FieldType {
	if (choicesOf(schema)) return 'options';
	const kinds = schema.type === undefined ? schema.enum?.map((value) => typeof value) : undefined;
	const types: string[] = (kinds ?? typesOf(schema)).filter((type) => type !== 'null');
	// A text fits most: a list or an object is then written as JSON.
	if (types.includes('string') || types.length === 0) {
		return types.length === 1 && schema.format === 'date-time' ? 'dateTime' : 'string';
	}
	if (types.includes('number') || types.includes('integer')) return 'number';
	if (types.includes('boolean')) return 'boolean';
	return types.includes('array') ? 'array' : 'object';
}

function scalar(value: unknown): string | number | boolean | undefined {
	return ['string', 'number', 'boolean'].includes(typeof value)
		? (value as string | number | boolean)
		: undefined;
}

export function fieldsOf(schema: Schema | null | undefined): ResourceMapperField[] {
	const { properties, required } = formOf(schema) ?? { properties: [], required: new Set<string>() };
	return properties.map(([id, property]) => {
		const choices = choicesOf(property);
		const told = choices || !property.enum?.length ? '' : ` (${property.enum.map(String).join(', ')})`;
		return {
			id,
			displayName: `${id}${told}`,
			required: required.has(id),
			defaultMatch: false,
			canBeUsedToMatch: false,
			display: true,
			type: fieldType(property),
			...(choices && { options: choices.map((value) => ({ name: value, value })) }),
			...(scalar(property.default) !== undefined && { defaultValue: scalar(property.default) }),
		};
	});
}

/** What to say where there are no fields to fill in. */
export function noticeOf(schema: Schema | null | undefined): string {
	const form = formOf(schema);
	if (form === undefined) return 'The input of this task is no object; choose Text or JSON instead.';
	return form.open
		? 'This task names no fields of its own: choose JSON and write the object, or Map Automatically to send the whole item.'
		: 'This task takes no fields; choose JSON and write {}.';
}

/** Text that is JSON of a kind the schema takes beside text, or the value of a list that it spells. */
function parsed(text: string, property: Schema): unknown {
	if (property.enum && !property.enum.includes(text)) {
		return property.enum.find((value) => String(value) === text.trim()) ?? text;
	}
	const opening = text.trimStart().charAt(0);
	const wanted = opening === '[' ? 'array' : opening === '{' ? 'object' : undefined;
	if (wanted === undefined || !typesOf(property).includes(wanted)) return text;
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

/**
 * The fields' values as the task wants them; what is empty and not required is left out. With `all`
 * what the schema does not name goes along where it may.
 */
export function inputOf(schema: Schema | null | undefined, values: IDataObject, all = false): IDataObject {
	const form = formOf(schema);
	// The service says best what it wants instead of an object.
	if (form === undefined) return values;
	const named = new Map(form.properties);
	const input: IDataObject = {};
	for (const [id, value] of Object.entries(values)) {
		const property = named.get(id);
		if (value === undefined || (property === undefined && !(all && form.open))) continue;
		const empty = value === null || value === '';
		if (empty && property !== undefined && !form.required.has(id)) continue;
		input[id] = (typeof value === 'string' && property ? parsed(value, property) : value) as IDataObject;
	}
	return input;
}
