/** An area that takes files and folders: by a drop, or as a button that opens the file dialog. */

import { type ReactNode, useRef, useState } from "react";
import { Icon } from "../components/Icon";
import { t } from "../i18n";

export interface DroppedFile {
  /** Relative, with the folders that were dropped. */
  readonly path: string;
  readonly file: File;
}

interface DropZoneProps {
  readonly onFiles: (files: readonly DroppedFile[]) => void;
  readonly label?: string;
  readonly disabled?: boolean;
  readonly children?: ReactNode;
}

/** Folders deeper than this are left out. */
const MAX_DEPTH = 8;

export function DropZone({ onFiles, label, disabled = false, children }: DropZoneProps) {
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  return (
    <div
      className={over ? "drop-zone over" : "drop-zone"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(!disabled);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (!disabled) void droppedFiles(event.dataTransfer).then(onFiles);
      }}
    >
      <button type="button" disabled={disabled} onClick={() => input.current?.click()}>
        <Icon name="folder" /> {label ?? t("drop.button")}
      </button>
      <p className="muted">{t("drop.files")}</p>
      {children}
      <input
        ref={input}
        type="file"
        multiple
        hidden
        // @ts-expect-error: React's types do not know this attribute, all browsers do.
        webkitdirectory=""
        onChange={(event) => {
          const files = [...(event.target.files ?? [])];
          event.target.value = "";
          onFiles(files.map((file) => ({ path: file.webkitRelativePath || file.name, file })));
        }}
      />
    </div>
  );
}

/** All files of a drop, those in folders too. */
export async function droppedFiles(data: DataTransfer): Promise<readonly DroppedFile[]> {
  // The items are gone after the event: take the entries first, then read.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry());
  const files: DroppedFile[] = [];
  for (const entry of entries) if (entry) await walk(entry, "", 0, files);
  return files;
}

async function walk(
  entry: FileSystemEntry,
  folder: string,
  depth: number,
  files: DroppedFile[],
): Promise<void> {
  const path = folder ? `${folder}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((done, failed) =>
      (entry as FileSystemFileEntry).file(done, failed),
    );
    files.push({ path, file });
    return;
  }
  if (depth >= MAX_DEPTH) return;
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // Each call gives at most 100 entries; an empty one ends the folder.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, failed) =>
      reader.readEntries(done, failed),
    );
    if (some.length === 0) return;
    for (const child of some) await walk(child, path, depth + 1, files);
  }
}
