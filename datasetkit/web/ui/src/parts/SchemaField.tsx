/** A field for an option: what it is, its value, where that comes from, and the way back. */

import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Icon } from "../components/Icon";
import { serverText, t } from "../i18n";
import {
  isNumeric,
  type OptionInfo,
  type OptionValue,
  parseValue,
  rangeText,
  sameValue,
  textOf,
  valueText,
} from "./options";

export type ValueSource = "default" | "preset" | "file";

interface SchemaFieldProps {
  readonly option: OptionInfo;
  readonly value: OptionValue;
  readonly source: ValueSource;
  /** What a reset leads to: the preset's value, else the default. */
  readonly base: OptionValue;
  /** The family of the base model, for what is usual. */
  readonly family?: string;
  readonly label?: string;
  readonly readOnly?: boolean;
  /** Called for a valid value. */
  readonly onChange: (value: OptionValue) => void;
  readonly onReset: () => void;
  /** Called when the text becomes invalid, and when it becomes valid again. */
  readonly onInvalid?: (invalid: boolean) => void;
  /** Why the server refused the value. */
  readonly problem?: string;
  /** A button or a note beside the field. */
  readonly children?: ReactNode;
}

export function SchemaField(props: SchemaFieldProps) {
  const { option, value, source, base, family, children } = props;
  const id = useId();
  const changed = !sameValue(value, base);
  const usual = (family ? option.usual[family] : undefined) ?? option.usual[""];
  return (
    <div className={changed ? "field changed" : "field"}>
      <label htmlFor={id} className="field-name">
        {props.label ?? option.name}
      </label>
      <Control {...props} id={id} describedBy={`${id}-help`} />
      <div className="field-note">
        {usual ? <span>{t("field.usual", rangeText(usual))}</span> : null}
        {children}
      </div>
      <div className="field-source">
        {changed ? (
          <button
            type="button"
            className="plain tiny"
            disabled={props.readOnly}
            title={t("reset.to", { value: valueText(option, base) })}
            aria-label={`${option.name}: ${t("reset.to", { value: valueText(option, base) })}`}
            onClick={props.onReset}
          >
            <Icon name="reset" /> {valueText(option, base)}
          </button>
        ) : (
          <span className="muted small">{t(`field.from.${source}`)}</span>
        )}
      </div>
      <p className="field-help" id={`${id}-help`}>
        {option.help}
        {option.change ? <span className="muted"> {sentence(option.change)}</span> : null}
      </p>
    </div>
  );
}

function sentence(change: string): string {
  return `Change it: ${change}.`;
}

interface ControlProps {
  readonly id: string;
  readonly option: OptionInfo;
  readonly value: OptionValue;
  readonly readOnly?: boolean;
  readonly problem?: string;
  /** The id of the element with the help. */
  readonly describedBy?: string;
  readonly onChange: (value: OptionValue) => void;
  readonly onInvalid?: (invalid: boolean) => void;
}

/** What takes the value of an option: a switch, a list of choices, or text that is checked. */
export function Control(props: ControlProps) {
  const { option, value, id, onChange, describedBy, readOnly = false } = props;
  if (option.types.includes("bool") && option.types.length === 1) {
    return (
      <input
        id={id}
        type="checkbox"
        role="switch"
        checked={value === true}
        disabled={readOnly}
        aria-describedby={describedBy}
        onChange={(event) => onChange(event.target.checked)}
      />
    );
  }
  const closed = option.choices.length > 0 && option.types.length === 1;
  if (closed && !option.types[0]?.startsWith("list")) {
    return (
      <select
        id={id}
        value={textOf(value)}
        disabled={readOnly}
        aria-describedby={describedBy}
        onChange={(event) => {
          const parsed = parseValue(option, event.target.value);
          if (parsed.ok) onChange(parsed.value);
        }}
      >
        {option.default === null ? <option value="">{valueText(option, null)}</option> : null}
        {option.choices.map((choice) => (
          <option key={choice} value={String(choice)}>
            {String(choice)}
          </option>
        ))}
      </select>
    );
  }
  return <TextControl {...props} />;
}

function TextControl(props: ControlProps) {
  const { option, value, id, onChange, onInvalid, problem, readOnly = false } = props;
  const [typed, setTyped] = useState(textOf(value));
  const [error, setError] = useState("");
  const shown = useRef(value);
  // A value from outside replaces the text; the text that led to the value stays as it was typed.
  useEffect(() => {
    if (sameValue(shown.current, value)) return;
    shown.current = value;
    setTyped(textOf(value));
    setError("");
    onInvalid?.(false);
  }, [value, onInvalid]);
  const message = error || problem || "";
  // "none: the end only" would be cut off in a narrow field.
  const unset = valueText(option, null);
  const placeholder = isNumeric(option) ? unset.split(":")[0] : unset;
  return (
    <div className="field-text">
      <input
        id={id}
        type="text"
        inputMode={isNumeric(option) ? "decimal" : "text"}
        className={isNumeric(option) ? "number" : ""}
        autoComplete="off"
        spellCheck={false}
        value={typed}
        readOnly={readOnly}
        placeholder={value === null || value === "" ? placeholder : undefined}
        title={value === null || value === "" ? unset : undefined}
        aria-invalid={message !== ""}
        aria-describedby={message ? `${id}-error` : props.describedBy}
        onChange={(event) => {
          const text = event.target.value;
          setTyped(text);
          const parsed = parseValue(option, text);
          setError(parsed.ok ? "" : parsed.error);
          onInvalid?.(!parsed.ok);
          if (!parsed.ok) return;
          shown.current = parsed.value;
          onChange(parsed.value);
        }}
      />
      {option.unit ? <span className="unit">{serverText(option.unit)}</span> : null}
      {message ? (
        <p className="field-error" id={`${id}-error`} role="alert">
          {message}
        </p>
      ) : null}
    </div>
  );
}
