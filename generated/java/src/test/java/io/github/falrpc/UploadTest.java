package io.github.falrpc;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import io.github.falrpc.v1.FalServiceGrpc;
import io.github.falrpc.v1.UploadHeader;
import io.github.falrpc.v1.UploadRequest;
import io.github.falrpc.v1.UploadResponse;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class UploadTest {
  private static final UploadHeader HEADER = UploadHeader.newBuilder().setFileName("a.bin").build();

  /** Keeps what comes; a call that is cancelled is noted. */
  private static class Storage extends FalServiceGrpc.FalServiceImplBase {
    final ByteArrayOutputStream stored = new ByteArrayOutputStream();
    final CountDownLatch completed = new CountDownLatch(1);
    final CountDownLatch cancelled = new CountDownLatch(1);
    UploadHeader header;

    @Override
    public StreamObserver<UploadRequest> upload(StreamObserver<UploadResponse> response) {
      ((ServerCallStreamObserver<?>) response).setOnCancelHandler(cancelled::countDown);
      return new StreamObserver<>() {
        @Override
        public void onNext(UploadRequest part) {
          if (part.hasHeader()) {
            header = part.getHeader();
          } else {
            stored.writeBytes(part.getChunk().toByteArray());
          }
          received(response);
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
          completed.countDown();
          response.onNext(UploadResponse.newBuilder().setUrl("https://x").setSize(stored.size()).build());
          end(response);
        }
      };
    }

    void received(StreamObserver<UploadResponse> response) {}

    void end(StreamObserver<UploadResponse> response) {
      response.onCompleted();
    }
  }

  /** Gives zeros without end, and counts them. */
  private static class Endless extends InputStream {
    volatile long given;

    @Override
    public int read() throws IOException {
      return read(new byte[1], 0, 1);
    }

    @Override
    public int read(byte[] buffer, int offset, int length) throws IOException {
      int count = Math.min(length, 1009);
      given += count;
      return count;
    }
  }

  /** The header and all bytes arrive, in a few messages or none. */
  @Test
  void sendsAll() throws Exception {
    for (int size : new int[] {0, 1, 256 << 10, 5_000_001}) {
      Storage storage = new Storage();
      try (Served served = new Served(storage)) {
        byte[] bytes = new byte[size];
        new Random(1).nextBytes(bytes);
        UploadResponse response = Falrpc.upload(served.stub, HEADER, new ByteArrayInputStream(bytes));
        assertEquals(size, response.getSize());
        assertEquals(HEADER, storage.header);
        assertArrayEquals(bytes, storage.stored.toByteArray());
      }
    }
  }

  /** Each kind of stub will do, with its own options. */
  @Test
  void takesAnyStub() throws Exception {
    try (Served served = new Served(new Storage())) {
      var stub = FalServiceGrpc.newStub(served.stub.getChannel()).withDeadlineAfter(60, TimeUnit.SECONDS);
      assertEquals("https://x", Falrpc.upload(stub, HEADER, InputStream.nullInputStream()).getUrl());
      var late = FalServiceGrpc.newFutureStub(served.stub.getChannel()).withDeadlineAfter(-1, TimeUnit.SECONDS);
      var failure = assertThrows(
          StatusRuntimeException.class, () -> Falrpc.upload(late, HEADER, InputStream.nullInputStream()));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, failure.getStatus().getCode());
    }
  }

  /** A stream that fails cancels the call, so that no half file is made, and its own failure comes out. */
  @Test
  void cancelsWhenTheStreamFails() throws Exception {
    for (Exception thrown : new Exception[] {new IOException("torn"), new UncheckedIOException(new IOException())}) {
      Storage storage = new Storage();
      try (Served served = new Served(storage)) {
        InputStream torn = new Endless() {
          @Override
          public int read(byte[] buffer, int offset, int length) throws IOException {
            if (given < 1_000_000) {
              return super.read(buffer, offset, length);
            }
            if (thrown instanceof RuntimeException unchecked) {
              throw unchecked;
            }
            throw (IOException) thrown;
          }
        };
        assertSame(thrown, assertThrows(Exception.class, () -> Falrpc.upload(served.stub, HEADER, torn)));
        assertTrue(storage.cancelled.await(60, TimeUnit.SECONDS));
        assertEquals(1, storage.completed.getCount());
      }
    }
  }

  /** A server that refuses midway is heard at once, with its details. */
  @Test
  void hearsRefusals() throws Exception {
    var tooLarge = com.google.rpc.Status.newBuilder()
        .setCode(Status.Code.RESOURCE_EXHAUSTED.value())
        .addDetails(Any.pack(ErrorInfo.newBuilder().setDomain("falrpc").setReason("UPLOAD_TOO_LARGE").build()))
        .build();
    Storage refusing = new Storage() {
      @Override
      void received(StreamObserver<UploadResponse> response) {
        if (stored.size() > 1_000_000) {
          response.onError(StatusProto.toStatusException(tooLarge));
        }
      }
    };
    try (Served served = new Served(refusing)) {
      var failure = assertThrows(
          StatusRuntimeException.class, () -> Falrpc.upload(served.stub, HEADER, new Endless()));
      assertEquals(Status.Code.RESOURCE_EXHAUSTED, failure.getStatus().getCode());
      assertEquals("UPLOAD_TOO_LARGE", Errors.reason(failure));
    }
  }

  /** An answer counts when its status has come: a server that fails after it has failed. */
  @Test
  void waitsForTheStatus() throws Exception {
    Storage failing = new Storage() {
      @Override
      void end(StreamObserver<UploadResponse> response) {
        response.onError(Status.ABORTED.asException());
      }
    };
    try (Served served = new Served(failing)) {
      var failure = assertThrows(
          StatusRuntimeException.class,
          () -> Falrpc.upload(served.stub, HEADER, InputStream.nullInputStream()));
      assertEquals(Status.Code.ABORTED, failure.getStatus().getCode());
    }
  }

  /** A server that reads nothing holds back the reading of the file. */
  @Test
  void followsTheServersPace() throws Exception {
    Storage idle = new Storage() {
      @Override
      public StreamObserver<UploadRequest> upload(StreamObserver<UploadResponse> response) {
        ((ServerCallStreamObserver<?>) response).disableAutoRequest();
        return super.upload(response);
      }
    };
    try (Served served = new Served(idle)) {
      Endless file = new Endless();
      var stub = served.stub.withDeadlineAfter(1, TimeUnit.SECONDS);
      var failure = assertThrows(StatusRuntimeException.class, () -> Falrpc.upload(stub, HEADER, file));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, failure.getStatus().getCode());
      assertTrue(file.given < 4_000_000, file.given + " bytes were read");
    }
  }

  /** A thread that is interrupted stops, cancels the call, and stays interrupted. */
  @Test
  void stopsWhenInterrupted() throws Exception {
    Storage storage = new Storage();
    try (Served served = new Served(storage)) {
      InputStream interrupting = new Endless() {
        @Override
        public int read(byte[] buffer, int offset, int length) throws IOException {
          if (given > 1_000_000) {
            Thread.currentThread().interrupt();
          }
          return super.read(buffer, offset, length);
        }
      };
      var failure =
          assertThrows(StatusRuntimeException.class, () -> Falrpc.upload(served.stub, HEADER, interrupting));
      assertTrue(Thread.interrupted());
      assertEquals(Status.Code.CANCELLED, failure.getStatus().getCode());
      assertTrue(storage.cancelled.await(60, TimeUnit.SECONDS));
    }
  }
}
