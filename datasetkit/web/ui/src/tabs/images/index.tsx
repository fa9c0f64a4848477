/** The tab Images: concepts, their images, what is left out, and the preparation. */

import { type DragEvent, useCallback, useEffect, useState } from "react";
import { isMissing } from "../../http";
import { type DroppedFile, droppedFiles } from "../../parts/DropZone";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useStudio, useStudioState } from "../../studio/context";
import { loadConcepts } from "./api";
import { FolderDialog } from "./FolderDialog";
import "./images.css";
import { ImagesView } from "./ImagesView";
import type { Concepts } from "./shapes";
import { StartCards } from "./StartCards";
import { UploadDialog } from "./UploadDialog";

/** What was shown last: it is there again on return. */
let last: { concepts: Concepts | null; concept: number } = { concepts: null, concept: 0 };

export default function Images() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const readOnly = useStudioState((state) => state.session.read_only);
  const [concepts, setConcepts] = useState(last.concepts);
  const [concept, setConcept] = useState(last.concept);
  const [dropped, setDropped] = useState<readonly DroppedFile[] | null>(null);
  const [folderOpen, setFolderOpen] = useState(false);
  const [over, setOver] = useState(false);
  last = { concepts, concept };

  const load = useCallback(async () => {
    try {
      setConcepts(await loadConcepts(studio.http));
    } catch (error) {
      setConcepts({ concepts: [], steps: {} });
      if (!isMissing(error)) studio.fail(error);
    }
  }, [studio]);
  useEffect(() => void load(), [load, project]);

  const take = (files: readonly DroppedFile[]) => {
    if (files.length > 0) setDropped(files);
  };
  const onDragOver = (event: DragEvent) => {
    if (readOnly || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(true);
  };
  const onDrop = (event: DragEvent) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    setOver(false);
    if (!readOnly) void droppedFiles(event.dataTransfer).then(take);
  };
  if (concepts === null) return <Loading />;
  const shown = concepts.concepts.find((item) => item.id === concept) ?? concepts.concepts[0];
  const images = concepts.concepts.reduce((sum, item) => sum + item.images, 0);
  return (
    <div
      className={over ? "images-tab over" : "images-tab"}
      onDragOver={onDragOver}
      onDragLeave={() => setOver(false)}
      onDrop={onDrop}
    >
      {shown === undefined || images === 0 ? (
        <WorkArea>
          <StartCards take={take} openFolder={() => setFolderOpen(true)} done={load} />
        </WorkArea>
      ) : (
        <ImagesView
          key={shown.id}
          concepts={concepts}
          concept={shown}
          choose={setConcept}
          add={() => setFolderOpen(true)}
          take={take}
          reload={load}
        />
      )}
      {dropped ? (
        <UploadDialog
          files={dropped}
          concepts={concepts.concepts}
          concept={shown}
          close={() => setDropped(null)}
          done={load}
        />
      ) : null}
      {folderOpen ? <FolderDialog close={() => setFolderOpen(false)} done={load} /> : null}
    </div>
  );
}
